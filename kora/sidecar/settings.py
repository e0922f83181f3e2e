"""What the data process tells its sidecar first of all, and again when one of it changes."""

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Settings:
    # Without these there is nothing to start with.
    metrics_bind: list[str]  # a `-` before an address: passed over where the machine does not have it
    metrics_port: int
    loop_stall_ms: int  # may change at run time
    started_ms: int  # wall clock: when the data process started
    # Shown as they are.
    version: str = ""
    kernel: str = ""
    restarts: int = 0  # of the sidecar
    keeps_history: bool = False  # asks for a snapshot every second, for the dashboard
    # What /metrics is like; these may change at run time.
    metrics_series_max: int = 6000
    metrics_token: str = ""  # what all but health is answered for; "" asks for none
    debug_endpoints: bool = False
    tls_cert_file: str = ""
    config: dict[str, str] = field(default_factory=dict)  # settings that redis_* families show, as CONFIG GET has them
    # Where spans go, and what they are told of by numbers.
    tracing_enabled: bool = False
    tracing_endpoint: str = ""
    tracing_queue_max: int = 8192
    commands: list[str] = field(default_factory=list)  # names by slot
    run_id: str = ""
    port: int = 0
    audit: dict[str, Any] = field(default_factory=dict)  # kora.server.audit; empty where no audit log is kept
    # How the sidecar's own log lines look and which are written, as the settings of these names say.
    log_level: str = "info"
    log_format: str = "json"
    logfile: str = ""  # absolute; opened anew whenever settings come
    log_repeats_max: int = 100
    # Events.  Where nobody has chosen the port, the server starts without it if it is taken.
    events_port: int = 0
    events_port_chosen: bool = False
    events_bind: list[str] = field(default_factory=list)
    # These may change at run time.
    events_token: str = ""  # opens events alone; metrics_token does as well
    events_rate_limit: int = 0
    events_flush_interval: int = 10  # seconds
    events_negative: bool = False

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "Settings":
        """Names that mean nothing here are passed over: the data process may tell more than is needed."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
