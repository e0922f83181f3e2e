"""What `kora export` prints: configurations for the programs that look after a server."""

from collections.abc import Callable, Mapping
from typing import Final

from kora.config import SETTINGS_BY_NAME

_PORT: Final = SETTINGS_BY_NAME["port"].default
_METRICS_PORT: Final = SETTINGS_BY_NAME["metrics-port"].default
LOGS: Final = "/var/log/kora/*.log"

_PROMETHEUS: Final = """\
# Prometheus scrapes Kora and looks after its alerts: kora export alerts > alerts.yml
global:
  scrape_interval: 15s
  evaluation_interval: 15s

rule_files:
  - alerts.yml

scrape_configs:
  - job_name: kora
    # With metrics-token set:
    # authorization: {credentials: the-token}
    static_configs:
      - targets:
          - TARGET
"""

_PROMTAIL: Final = """\
# Promtail brings Kora's log to Loki: kora-server --logfile /var/log/kora/kora.log --log-format json
server:
  http_listen_port: 9080
  grpc_listen_port: 0

positions:
  filename: /var/lib/promtail/positions.yaml

clients:
  - url: http://loki:3100/loki/api/v1/push

scrape_configs:
  - job_name: kora
    static_configs:
      - targets:
          - localhost
        labels:
          job: kora
          __path__: LOGS
    pipeline_stages:
      - json:
          expressions:
            timestamp: timestamp
            level: level
            target: target
      - timestamp:
          source: timestamp
          format: RFC3339Nano
      - labels:
          level:
          target:
"""

_FLUENT_BIT: Final = """\
# Fluent Bit brings Kora's log to Elasticsearch: kora-server --logfile /var/log/kora/kora.log --log-format json
[SERVICE]
    Parsers_File kora-parsers.conf

# In kora-parsers.conf:
#   [PARSER]
#       Name        kora
#       Format      json
#       Time_Key    timestamp
#       Time_Format %Y-%m-%dT%H:%M:%S.%L%z

[INPUT]
    Name   tail
    Path   LOGS
    Tag    kora
    Parser kora
    DB     /var/lib/fluent-bit/kora.db

[OUTPUT]
    Name  es
    Match kora
    Host  elasticsearch
    Port  9200
    Index kora
"""

_COMPOSE: Final = """\
# Kora, Prometheus with its alerts, and Grafana with its dashboard: docker compose -f compose.yml up
# Grafana is at http://localhost:3000, Prometheus at http://localhost:9091.  `build` wants Kora's sources.
services:
  kora:
    build: .
    image: kora
    environment:
      KORA_REQUIREPASS: ${KORA_REQUIREPASS:?a password for clients}
    ports:
      - "127.0.0.1:PORT:PORT"
    restart: unless-stopped
  prometheus:
    image: prom/prometheus
    command: ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
    configs:
      - {source: prometheus, target: /etc/prometheus/prometheus.yml}
      - {source: alerts, target: /etc/prometheus/alerts.yml}
    ports:
      - "127.0.0.1:9091:9090"
    volumes:
      - prometheus:/prometheus
    restart: unless-stopped
  grafana:
    image: grafana/grafana
    environment:
      GF_AUTH_ANONYMOUS_ENABLED: "true"
    configs:
      - {source: datasource, target: /etc/grafana/provisioning/datasources/kora.yml}
      - {source: dashboards, target: /etc/grafana/provisioning/dashboards/kora.yml}
      - {source: dashboard, target: /var/lib/grafana/dashboards/kora.json}
    ports:
      - "127.0.0.1:3000:3000"
    restart: unless-stopped

volumes:
  prometheus:

configs:
"""

_DATASOURCE: Final = """\
apiVersion: 1
datasources:
  - {name: Prometheus, type: prometheus, url: "http://prometheus:9090", isDefault: true}
"""
_DASHBOARDS: Final = """\
apiVersion: 1
providers:
  - {name: kora, options: {path: /var/lib/grafana/dashboards}}
"""


def prometheus(target: str = f"localhost:{_METRICS_PORT}") -> str:
    return _PROMETHEUS.replace("TARGET", target)


def alerts() -> str:
    from kora.cli.alerts import rule_file

    return rule_file()


def grafana() -> str:
    from kora.cli.dashboard import dashboard

    return dashboard()


def compose() -> str:
    """One file: what the other programs are configured with stands in it."""
    contents = {
        "prometheus": prometheus(f"kora:{_METRICS_PORT}"),
        "alerts": alerts(),
        "datasource": _DATASOURCE,
        "dashboards": _DASHBOARDS,
        "dashboard": grafana(),
    }
    blocks = [f"  {name}:\n    content: |\n{_indented(content)}" for name, content in contents.items()]
    return _COMPOSE.replace("PORT", str(_PORT)) + "".join(blocks)


def _indented(text: str) -> str:
    # A dollar would be a variable of compose's own.
    return "".join(f"      {line}\n" if line else "\n" for line in text.replace("$", "$$").splitlines())


def promtail() -> str:
    return _PROMTAIL.replace("LOGS", LOGS)


def fluent_bit() -> str:
    return _FLUENT_BIT.replace("LOGS", LOGS)


ASSETS: Final[Mapping[str, tuple[Callable[[], str], str]]] = {
    "prometheus": (prometheus, "what Prometheus scrapes, prometheus.yml"),
    "alerts": (alerts, "rules for Prometheus, alerts.yml"),
    "grafana": (grafana, "a dashboard, to be imported"),
    "compose": (compose, "Kora, Prometheus and Grafana together, for docker compose"),
    "promtail": (promtail, "how Promtail brings the log to Loki"),
    "fluent-bit": (fluent_bit, "how Fluent Bit brings the log to Elasticsearch"),
}
