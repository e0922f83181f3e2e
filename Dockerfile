# Kora in a container: clients on 6379, the sidecar (metrics, health, status) on 9090.
#
#   docker build -t kora .
#   docker run -e KORA_REQUIREPASS=secret -p 127.0.0.1:6379:6379 -p 127.0.0.1:9090:9090 kora
#
# Every setting is a KORA_* variable or a flag after the image's name; a kora.toml is read where it is mounted as
# /data/kora.toml.
ARG PYTHON=3.11

# The full image has the compiler for the kernel, and for a dependency that has no wheel for this machine.
FROM python:${PYTHON} AS build
WORKDIR /source
COPY . .
RUN KORA_REQUIRE_KERNEL=1 pip wheel --no-cache-dir --wheel-dir /wheels ".[all]" \
 && python -m venv /opt/kora \
 && /opt/kora/bin/pip install --no-cache-dir --no-index --find-links /wheels "kora-server[all]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/kora /opt/kora
RUN useradd --system --uid 10001 --create-home --home-dir /data kora
USER 10001
WORKDIR /data

# Inside a container loopback reaches nobody, so all ports listen on every address, and what is published decides.
# Protected mode stays on: without KORA_REQUIREPASS, clients from outside the container are turned away with an error
# that says so.  KORA_PROTECTED_MODE=no lets everybody in who reaches the port.  The sidecar asks for no password.
ENV PATH=/opt/kora/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KORA_BIND="* -::*" \
    KORA_METRICS_BIND="* -::*" \
    KORA_EVENTS_BIND="* -::*"
EXPOSE 6379 9090 3000

# Live is 503, and urllib raises, while the server shuts down or its data loop is stuck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["python", "-c", \
  "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('KORA_METRICS_PORT', '9090') + '/health/live', timeout=2)"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["kora-server"]
