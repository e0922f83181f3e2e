"""The settings: read from everywhere, refused in plain words, changed all or nothing, rewritten with no line lost."""

import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora import config as config_module
from kora.config import (
    FACTS,
    LONG_MAX,
    SETTINGS,
    ULONG_MAX,
    Config,
    Kind,
    Setting,
    example_toml,
    flags_help,
    log_levels,
    lookup,
    memory_text,
    reference_table,
)
from kora.errors import CommandError, ConfigError

pytestmark = pytest.mark.once

MB = 1024 * 1024
NAMES = [setting.name for setting in SETTINGS]
ALIASES = [alias for setting in SETTINGS for alias in setting.aliases]


@pytest.fixture
def write(tmp_path):
    """Write a settings file and return its path."""

    def write(text: str | bytes, name: str = "test.toml") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def load(tmp_path):
    """Config.load where no kora.toml lies about."""

    def load(*argv: str, environ: dict[str, str] | None = None) -> Config:
        return Config.load(argv, environ or {}, directory=str(tmp_path))

    return load


def refusal(load, *argv: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*argv, environ=environ)
    text = str(caught.value)
    assert "\n" not in text, "a mistake in the settings is one line"
    return text


def set_refusal(config: Config, *pairs: tuple[str, str]) -> str:
    before = config.get("*")
    with pytest.raises(CommandError) as caught:
        config.set(pairs)
    assert config.get("*") == before, "a refused CONFIG SET must change nothing"
    return caught.value.message


# --- The table ---


def test_every_setting_has_its_type_on_config():
    kinds = {
        Kind.INTEGER: int,
        Kind.MEMORY: int,
        Kind.SHARE: int,
        Kind.BOOLEAN: bool,
        Kind.LIST: tuple[str, ...],
    }
    expected = {setting.attribute: kinds.get(setting.kind, str) for setting in SETTINGS}
    assert Config.__annotations__ == expected, "add or correct the type on kora.config.Config"


def test_no_setting_hides_a_method_or_another_setting():
    names = [name for setting in SETTINGS for name in (setting.name, *setting.aliases)]
    assert len(names) == len(set(names))
    assert not [setting.name for setting in SETTINGS if hasattr(Config, setting.attribute)]


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_a_default_survives_its_text(setting: Setting):
    assert setting.parse(setting.text(setting.default)) == setting.default


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_help_is_plain_sentences(setting: Setting):
    assert setting.help[0].isupper() and setting.help.endswith(".")


def test_a_config_without_anything_has_the_defaults():
    config = Config()
    assert config.port == 6379
    assert config.bind == ("127.0.0.1", "-::1")
    assert config.proto_max_bulk_len == 512 * MB
    assert config.protected_mode is True
    assert config.file is None
    assert {config.source(name) for name in NAMES} == {"default"}


# --- Values ---


def values_of(setting: Setting) -> st.SearchStrategy:
    """Any value the setting can have, in the form that parse() gives."""
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    match setting.kind:
        case Kind.INTEGER | Kind.MEMORY:
            return st.integers(setting.minimum, setting.maximum)
        case Kind.SHARE:
            return st.integers(-100, setting.maximum)
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.ENUM:
            return st.sampled_from(setting.choices)
        case Kind.LIST if setting.choices:
            return st.lists(st.sampled_from(setting.choices), max_size=4).map(tuple)
        case Kind.LIST:
            return st.lists(text.map(lambda item: "".join(item.split()) or "x"), max_size=4).map(tuple)
        case Kind.OCTAL:
            return st.integers(0, 0o777).map(lambda mode: f"{mode:o}")
        case Kind.LEVELS:
            level = st.sampled_from(config_module.LOG_LEVELS)
            modules = st.dictionaries(st.sampled_from(["kora", "kora.store", "x_1"]), level)
            return st.tuples(level, modules).map(lambda p: ",".join([p[0], *(f"{k}={v}" for k, v in p[1].items())]))
        case Kind.PERCENTILES:
            return st.lists(st.floats(0, 100), max_size=4).map(lambda found: setting.parse(" ".join(map(repr, found))))
        case Kind.RATIO:
            return st.floats(0, 1).map(lambda ratio: setting.parse(repr(ratio)))
        case Kind.EVENTS:
            return st.text("KEAg$lshzxetdmn", max_size=6).map(setting.parse)
        case Kind.SAVE_POINTS:
            return st.lists(st.tuples(st.integers(1, 1 << 30), st.integers(0, 1 << 30)), max_size=4).map(
                lambda points: " ".join(f"{seconds} {changes}" for seconds, changes in points)
            )
        case Kind.OUTPUT_LIMITS:
            limits = st.tuples(st.sampled_from(("normal", "replica", "pubsub")), *[st.integers(0, 1 << 40)] * 3)
            return limits.map(lambda words: setting.parse(" ".join(map(str, words))))
    return text


any_setting = st.sampled_from(SETTINGS)
any_setting_and_value = any_setting.flatmap(lambda setting: st.tuples(st.just(setting), values_of(setting)))


@given(any_setting_and_value)
def test_a_value_survives_its_text(pair):
    setting, value = pair
    assert setting.parse(setting.text(value)) == value


@given(any_setting_and_value)
def test_a_value_survives_toml(pair):
    setting, value = pair
    parsed = config_module.tomllib.loads(f"key = {setting.toml(value)}")
    assert setting.from_toml(parsed["key"]) == value


@given(any_setting, st.text())
def test_any_text_is_a_value_or_a_config_error(setting, text):
    try:
        value = setting.parse(text)
    except ConfigError:
        return
    assert setting.parse(setting.text(value)) == value


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1000),
        ("1kb", 1024),
        ("1M", 10**6),
        ("1mb", MB),
        ("2g", 2 * 10**9),
        ("1GB", 1024 * MB),
        ("18446744073709551615", ULONG_MAX),
    ],
)
def test_memory_takes_redis_suffixes(text, size_bytes):
    assert lookup("maxmemory").parse(text) == size_bytes


@pytest.mark.parametrize("text", ["", "b", "-1", "1.5gb", " 1", "1 ", "1tb", "1mbb", "٣", "0x10", "9" * 5000])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="argument must be a memory value"):
        lookup("maxmemory").parse(text)


@pytest.mark.parametrize("text", ["", "abc", "1.5", " 1", "1 ", "+5", "007", "-0", "0x10", "1_000", "٣", "9" * 5000])
def test_what_is_no_integer_is_refused(text):
    with pytest.raises(ConfigError, match="argument couldn't be parsed into an integer"):
        lookup("timeout").parse(text)


@pytest.mark.parametrize(("text", "value"), [("0", 1), ("1", 1), ("500", 500), ("100000", 500)])
def test_hz_out_of_range_is_moved_to_the_nearest(text, value):
    assert lookup("hz").parse(text) == value


@pytest.mark.parametrize(("text", "value"), [("0", "0"), ("700", "700"), ("0770", "770"), ("777", "777")])
def test_permissions_are_octal_digits(text, value):
    assert lookup("unixsocketperm").parse(text) == value


@pytest.mark.parametrize("text", ["", "8", "1000", "7777", "-1", "0o700"])
def test_what_is_no_permission_is_refused(text):
    with pytest.raises(ConfigError):
        lookup("unixsocketperm").parse(text)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("info", {"": "info"}),
        ("WARN", {"": "warning"}),
        ("verbose", {"": "debug"}),
        ("notice", {"": "info"}),
        ("kora=info,kora.store=debug", {"kora": "info", "kora.store": "debug"}),
        ("info, kora.store = trace", {"": "info", "kora.store": "trace"}),
    ],
)
def test_log_levels_are_one_or_per_module(text, levels):
    assert log_levels(text) == levels


@pytest.mark.parametrize(
    "text", ["", "loud", "info,", "info,debug", "=info", "a=b=info", "kora=info,kora=info", "a b=info"]
)
def test_what_is_no_log_level_is_refused(text):
    with pytest.raises(ConfigError, match="trace, debug, info, warning, error"):
        log_levels(text)


def test_a_secret_may_hold_a_nul_but_a_path_may_not():
    assert lookup("requirepass").parse("a\0b") == "a\0b"
    with pytest.raises(ConfigError):
        lookup("unixsocket").parse("a\0b")


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0"), (1, "1"), (1024, "1kb"), (MB + 1, str(MB + 1)), (3 << 30, "3gb"), (1000, "1000")]
)
def test_memory_text_is_exact(size_bytes, text):
    assert memory_text(size_bytes) == text


# --- Flags ---


@pytest.mark.parametrize(
    "argv",
    [
        ["--metrics-port", "9191"],
        ["--metrics-port=9191"],
        ["--metrics_port", "9191"],
        ["--METRICS_PORT=9191"],
        ["--metrics-port", "1", "--metrics-port", "9191"],
    ],
)
def test_a_flag_is_spelled_as_one_likes(load, argv):
    config = load(*argv)
    assert config.metrics_port == 9191
    assert config.source("metrics-port") == "flag"


@pytest.mark.parametrize(
    "argv",
    [
        ["--bind", "127.0.0.1", "-::1"],
        ["--bind", "127.0.0.1 -::1"],
        ["--bind=127.0.0.1 -::1"],
        ["--bind", "127.0.0.1", "--bind", "-::1"],
        ["--port", "1", "--bind", "127.0.0.1", "-::1", "--hz", "3"],
    ],
)
def test_a_list_takes_the_words_up_to_the_next_flag(load, argv):
    assert load(*argv).bind == ("127.0.0.1", "-::1")


def test_an_empty_list_is_a_list(load):
    assert load("--bind", "").bind == ()


def test_a_value_may_begin_with_dashes_after_an_equals_sign(load):
    assert load("--requirepass=--secret=x").requirepass == "--secret=x"


def test_loglevel_is_redis_name_for_log_level(load):
    config = load("--loglevel", "verbose")
    assert config.log_level == "debug"
    assert config.source("log-level") == "flag"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--prt", "1"], "unknown flag '--prt'; did you mean --port?"),
        (["--metrics_prt", "1"], "unknown flag '--metrics_prt'; did you mean --metrics-port?"),
        (["--conifg", "x"], "unknown flag '--conifg'; did you mean --config?"),
        (["--daemonize", "yes"], "unknown flag '--daemonize'"),
        (["--"], "unknown flag '--'"),
        (["--=x"], "unknown flag '--'"),
        (["-x"], "unknown flag '-x'"),
        (["--port"], "--port: needs a value; one that begins with '--' is given as --port=VALUE"),
        (["--bind"], "--bind: needs a value"),
        (["--port", "--hz", "1"], "--port: needs a value"),
        (["--port", "1", "2"], "--port: unexpected argument '2' after it"),
        (["--port", "abc"], "--port: port must be an integer from 0 to 65535, not 'abc'"),
        (["--port=99999"], "--port: port must be an integer from 0 to 65535, not '99999'"),
        (["--protected-mode", "true"], "--protected-mode: protected-mode must be yes or no, not 'true'"),
        (["--log-format", "xml"], "--log-format: log-format must be one of json, text, not 'xml'"),
        (["--appendonly", "maybe"], "--appendonly: appendonly must be yes or no, not 'maybe'"),
        (["--save", "60"], "--save: save must be pairs of seconds and changes, such as \"3600 1 300 100\", not '60'"),
        (["--save", "0 1"], "--save: save must be pairs of seconds and changes, such as \"3600 1 300 100\", not '0 1'"),
        (["--maxmemory", "lots"], "maxmemory must be a number of bytes such as 1048576, 512mb or 1gb, not 'lots'"),
        (["--proto-max-bulk-len", "1kb"], "such as 1048576, 512mb or 1gb, at least 1mb, not '1kb'"),
        (["-c"], "-c: needs a value"),
        (["--config", ""], "--config: needs to be the name of a file"),
        (["a.toml", "-c", "b.toml"], "-c: there is a configuration file already, 'a.toml'"),
        (["a.toml", "b.toml"], "a.toml: unexpected argument 'b.toml' after it"),
    ],
)
def test_a_wrong_flag_is_refused_with_what_would_be_right(load, argv, text):
    assert text in refusal(load, *argv)


def test_a_wrong_flag_of_hostile_length_gets_a_short_answer(load):
    assert len(refusal(load, "--" + "prt\n" * 100_000, "1")) < 200
    assert len(refusal(load, "--port", "9" * 1_000_000)) < 200


def test_a_refused_password_is_not_shown(load, write):
    path = write("requirepass = 123456")
    assert "123456" not in refusal(load, path)
    assert "hunter" not in refusal(load, "--requirepass", "hunter\udc80")


# --- Environment ---


def test_the_environment_sets_values(load):
    config = load(environ={"KORA_METRICS_PORT": "9191", "KORA_BIND": "::1 10.0.0.1", "HOME": "/", "kora_port": "x"})
    assert config.metrics_port == 9191
    assert config.bind == ("::1", "10.0.0.1")
    assert config.source("bind") == "environment"


def test_kora_log_is_another_name_for_kora_log_level(load):
    assert load(environ={"KORA_LOG": "warn"}).log_level == "warning"
    assert load(environ={"KORA_LOG": "warn", "KORA_LOG_LEVEL": "warning"}).log_level == "warning"
    text = refusal(load, environ={"KORA_LOG": "warn", "KORA_LOG_LEVEL": "info"})
    assert "KORA_LOG_LEVEL or KORA_LOG; keep one" in text


def test_variables_read_elsewhere_are_no_mistake(load):
    load(environ=dict.fromkeys(["KORA_CONFIG", "KORA_KERNEL", "KORA_REQUIRE_KERNEL", "KORA_REQUIRE_PEERS"], ""))


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("KORA_PRT", "1", "unknown environment variable 'KORA_PRT'; did you mean KORA_PORT?"),
        ("KORA_KERNAL", "off", "unknown environment variable 'KORA_KERNAL'; did you mean KORA_KERNEL?"),
        ("KORA_PORT", "x", "environment variable KORA_PORT: port must be an integer from 0 to 65535, not 'x'"),
        ("KORA_MAXMEMORY", "", "environment variable KORA_MAXMEMORY: maxmemory must be a number of bytes"),
        ("KORA_LOG", "loud", "environment variable KORA_LOG: log-level must be one of trace, debug"),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name(load, variable, value, text):
    assert text in refusal(load, environ={variable: value})


def test_the_variables_that_kubernetes_makes_for_a_service_called_kora_are_passed_over(load):
    config = load(
        environ={
            "KORA_SERVICE_HOST": "10.0.0.1",
            "KORA_SERVICE_PORT": "6379",
            "KORA_SERVICE_PORT_RESP": "6379",
            "KORA_PORT": "tcp://10.0.0.1:6379",
            "KORA_PORT_6379_TCP": "tcp://10.0.0.1:6379",
            "KORA_PORT_6379_TCP_ADDR": "10.0.0.1",
            "KORA_METRICS_PORT": "tcp://10.0.0.2:9090",
            "KORA_METRICS_SERVICE_HOST": "10.0.0.2",
            "KORA_METRICS_PORT_9090_TCP_PROTO": "tcp",
        }
    )
    assert config.port == 6379
    assert config.source("port") == "default"
    assert config.source("metrics-port") == "default"


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio"),
    [
        ("always_off", None, "0"),
        ("parentbased_always_on", "0.5", "1"),
        ("parentbased_traceidratio", "0.25", "0.25"),
        (" TraceIdRatio ", "0.25", "0.25"),
        ("traceidratio", "many", "0.01"),
        ("jaeger_remote", "0.25", "0.01"),
    ],
)
def test_opentelemetrys_variables_say_how_many_requests_are_traced(load, sampler, argument, ratio):
    variables = {"OTEL_TRACES_SAMPLER": sampler} | ({} if argument is None else {"OTEL_TRACES_SAMPLER_ARG": argument})
    assert float(load(environ=variables).tracing_sample_ratio) == float(ratio)
    assert load(environ=variables | {"KORA_TRACING_SAMPLE_RATIO": "0.75"}).tracing_sample_ratio == "0.75"


@pytest.mark.parametrize(("text", "is_on"), [("true", False), (" TRUE ", False), ("1", True), ("", True), ("no", True)])
def test_opentelemetrys_switch_turns_tracing_off(load, write, text, is_on):
    path = write("[telemetry]\ntracing-enabled = true\n")
    environ = {"OTEL_SDK_DISABLED": text}
    config = load(path, environ=environ)
    assert config.tracing_enabled is is_on
    assert config.source("tracing-enabled") == ("file" if is_on else "environment")
    assert load(environ=environ | {"KORA_TRACING_ENABLED": "yes"}).tracing_enabled is is_on
    assert load("--tracing-enabled", "yes", environ=environ).tracing_enabled


# --- The file ---


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("metrics-port = 9191", "metrics_port", 9191),
        ("metrics_port = 9191", "metrics_port", 9191),
        ("'metrics-port' = '9191'", "metrics_port", 9191),
        ("Metrics-Port = 0x23e7", "metrics_port", 9191),
        ("maxmemory = '1gb'", "maxmemory", 1024 * MB),
        ("maxmemory = 1000000", "maxmemory", 1000000),
        ("protected-mode = false", "protected_mode", False),
        ("protected-mode = 'no'", "protected_mode", False),
        ("tls-auth-clients = false", "tls_auth_clients", "no"),
        ("appendonly = false", "appendonly", False),
        ("bind = ['::1', '10.0.0.1']", "bind", ("::1", "10.0.0.1")),
        ("bind = '::1 10.0.0.1'", "bind", ("::1", "10.0.0.1")),
        ("bind = []", "bind", ()),
        ("bind = [ # one\n '::1', # [two\n]", "bind", ("::1",)),
        ("requirepass = '''a#\"b\nc'''", "requirepass", 'a#"b\nc'),
        ('requirepass = """a\\"""b"""""', "requirepass", 'a"""b""'),
        ("loglevel = 'notice'", "log_level", "info"),
        ("save = ''", "save", ""),
    ],
)
def test_the_file_takes_native_types_and_strings(load, write, line, name, value):
    config = load(write(f"# first\n{line} # last\nhz = 77"))
    assert getattr(config, name) == value
    assert config.source(name) == "file"
    assert config.hz == 77


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("port = 1\n prt = 2", "line 2, column 2", "unknown setting 'prt'; did you mean port?"),
        ("\n\nmetric_port = 2", "line 3, column 1", "did you mean metrics-port?"),
        ("port = 99999", "line 1, column 1", "port must be an integer from 0 to 65535, not 99999"),
        ("# é\r\nport = 'x'\r\n", "line 2, column 1", "port must be an integer from 0 to 65535, not 'x'"),
        ("port = true", "line 1, column 1", "not true"),
        ("port = 1.5", "line 1, column 1", "not the float 1.5"),
        ("port = 1979-05-27", "line 1, column 1", "not the date 1979-05-27"),
        ("port = [1]", "line 1, column 1", "not an array"),
        ("port = {a = 1}", "line 1, column 1", "not a table"),
        ("port = 0x" + "f" * 10_000, "line 1, column 1", "not a number of more than 64 bits"),
        ("bind = ['a', 1]", "line 1, column 1", "bind must be a list of strings, not an array"),
        ("unixsocketperm = 700", "line 1, column 1", 'octal digits in quotes, such as "700", not 700'),
        ("unixsocketperm = 0o777", "line 1, column 1", "octal digits in quotes"),
        ("protected-mode = 1", "line 1, column 1", "protected-mode must be yes or no, not 1"),
        ("hz = 1\nport = 1\n\nPORT = 2", "line 4, column 1", "port is set a second time, after line 2"),
        ("log-level = 'info'\nloglevel = 'debug'", "line 2, column 1", "log-level is set a second time, after line 1"),
        ("hz = 1\n[net]\nport = 1", "line 2, column 1", "no table of settings; there are [network], [tls]"),
        ("[[network]]", "line 1, column 1", "no table of settings"),
        ("[network.tcp]", "line 1, column 1", "no table of settings"),
        ("[network]\nhz = 1", "line 2, column 1", "hz is no setting of [network] but of [keyspace]"),
        ("port = 1\n[network]\nport = 2", "line 3, column 1", "port is set a second time, after line 1"),
        ("[network]\nport = 'x'", "line 2, column 1", "port must be an integer from 0 to 65535, not 'x'"),
        ("network.port = 1", "line 1, column 1", "settings stand at the top level or in a table, without a dot"),
        ("port = ", "line 1, column 8", "Invalid value"),
        ("port = 1\nhz = [1,\n2", "line 3, column 2", "Unclosed array"),
        ("= 3", "line 1, column 1", "Invalid statement"),
        (b"hz = 1\nsave = '\xff'", "line 2, column 9", "is not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(load, write, text, place, what):
    path = write(text)
    message = refusal(load, "--config", path)
    assert message.startswith(f"{path}, {place}: ")
    assert what in message


@pytest.mark.parametrize("text", ["hz = " + "9" * 5000, "hz = " + "[" * 100_000, "a." * 10_000 + "b = 1"])
def test_a_monstrous_file_gets_a_short_answer(load, write, text):
    assert len(refusal(load, write(text))) < 500


# Pieces that TOML gives a meaning to: random letters alone are hardly ever a file.
toml_pieces = st.lists(
    st.sampled_from(
        [*"""\"'#=[]{}.,- \t\n\r\\0""", '"""', "'''", "\r\n", "hz", "bind", "save", "= 1\n", "='x'\n", "=[\n", "é"]
    )
    | st.text(max_size=2),
    max_size=25,
).map("".join)


@given(toml_pieces)
def test_any_file_is_settings_or_a_config_error(text):
    try:
        entries = config_module._entries(text, "any.toml")
    except ConfigError as error:
        assert str(error).startswith("any.toml")
        return
    assert [lookup(key) for key in config_module.tomllib.loads(text)] == [entry.setting for entry in entries]


@given(st.lists(st.tuples(any_setting, toml_pieces), unique_by=lambda pair: pair[0].name, min_size=1))
def test_every_value_is_found_where_it_stands(pairs):
    try:
        parsed = config_module.tomllib.loads("\n".join(f"{setting.name} = {piece}" for setting, piece in pairs))
    except ValueError:
        # Most pieces are no value.  In quotes of either kind they are, and must not mislead the search.
        pairs = [(setting, config_module._toml_string(piece)) for setting, piece in pairs]
        parsed = config_module.tomllib.loads("\n".join(f"{setting.name} = {piece}" for setting, piece in pairs))
    text = "\n".join(f"{setting.name} = {piece}" for setting, piece in pairs)
    if any(isinstance(value, dict) for value in parsed.values()) or not parsed.keys() <= set(NAMES):
        return
    for _, key_start, value_start, value_stop in config_module._statements(text, "any.toml"):
        key = config_module._decoded_key(text[key_start : value_start - 1])
        assert config_module.tomllib.loads(f"x = {text[value_start:value_stop]}") == {"x": parsed.pop(key)}
    assert not parsed


def test_a_file_that_cannot_be_read_is_one_clear_line(load, tmp_path):
    missing = str(tmp_path / "missing.toml")
    assert refusal(load, missing) == f"{missing}: cannot be read: No such file or directory"
    assert refusal(load, environ={"KORA_CONFIG": str(tmp_path)}) == f"{tmp_path}: cannot be read: Is a directory"
    assert "is not the name of a file" in refusal(load, "a\0b")


def test_a_file_is_named_by_flag_position_or_variable(load, write):
    path = write("hz = 77")
    for argv in (["--config", path], [f"--config={path}"], ["-c", path], [path], ["--port", "1", "-c", path]):
        assert load(*argv).hz == 77
    assert load(environ={"KORA_CONFIG": path}).hz == 77
    assert load("--config", path, environ={"KORA_CONFIG": "/nowhere"}).hz == 77


def test_a_list_flag_ends_at_dash_c(load, write):
    config = load("--bind", "::1", "-c", write("hz = 77"))
    assert (config.bind, config.hz) == (("::1",), 77)


def test_kora_toml_is_read_where_it_is(load, write):
    assert load().hz == 10
    path = write("hz = 77", "kora.toml")
    config = load()
    assert config.hz == 77
    assert config.file == path
    assert load("--config", write("hz = 78")).hz == 78


def test_flag_outweighs_environment_outweighs_file_outweighs_default(load, write):
    path = write("hz = 1\ntimeout = 1\ndatabases = 1")
    config = load(path, "--hz", "3", environ={"KORA_HZ": "2", "KORA_TIMEOUT": "2"})
    assert (config.hz, config.timeout, config.databases, config.port) == (3, 2, 1, 6379)
    names = ["hz", "timeout", "databases", "port"]
    assert [config.source(name) for name in names] == ["flag", "environment", "file", "default"]


# --- CONFIG GET ---


def test_get_shows_values_in_redis_form(load):
    config = load("--maxmemory", "1gb", "--bind", "127.0.0.1", "::1", "--unixsocketperm", "0700")
    names = ["maxmemory", "bind", "unixsocketperm", "protected-mode", "save", "timeout"]
    assert list(config.get(*names).values()) == [
        str(1024 * MB), "127.0.0.1 ::1", "700", "yes", "3600 1 300 100 60 10000", "0"
    ]  # fmt: skip


def test_get_takes_patterns_in_any_case_and_several():
    config = Config()
    names = [(name, setting) for setting in SETTINGS for name in (setting.name, *setting.aliases)]
    defaults = {name: setting.text(setting.default) for name, setting in names} | FACTS
    assert config.get("*") == {**defaults, "dir": os.getcwd()}
    assert set(config.get("MAXMEMORY-[ps]*", "h?")) == {"maxmemory-policy", "maxmemory-samples", "hz"}
    assert config.get("foo", "[") == {}


def test_get_answers_a_name_as_it_was_typed_and_once():
    config = Config()
    assert config.get("TimeOut", "timeout", "time*") == {"TimeOut": "0"}
    assert config.get("metrics_port") == {"metrics_port": "9090"}
    assert set(config.get("metrics_[bp]*")) == {"metrics-port", "metrics-bind"}
    assert config.get("loglevel") == {"loglevel": "info"}


def test_get_finds_the_older_name_of_a_setting_as_well():
    config = Config()
    assert config.get("hash-max-*-value") == {"hash-max-listpack-value": "64", "hash-max-ziplist-value": "64"}
    both = ("lua-time-limit", "busy-reply-threshold")
    assert config.get(*both) == dict.fromkeys(both, "5000")


@given(st.lists(st.text(), max_size=3))
def test_get_stands_any_pattern(patterns):
    assert set(map(str.lower, Config().get(*patterns))) <= {*NAMES, *ALIASES, *FACTS, *map(str.lower, patterns)}


# --- CONFIG SET ---

# What redis-server 7.0.15 answers to the same, to the letter.
REDIS_REFUSALS = [
    (["foo", "bar"], "ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
    (["timeout", "1", "foo", "2"], "ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
    (["foo", "1", "databases", "2"], "ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
    (["tcp-backlog", "3"], "tcp-backlog: can't set immutable config"),
    (["DATABASES", "x"], "DATABASES: can't set immutable config"),
    (["databases", "1", "foo", "2"], "databases: can't set immutable config"),
    (["databases", "1", "timeout", "1", "timeout", "2"], "databases: can't set immutable config"),
    (["timeout", "1", "timeout", "2"], "timeout: duplicate parameter"),
    (["timeout", "1", "TIMEOUT", "x"], "TIMEOUT: duplicate parameter"),
    (["timeout", "1", "timeout", "2", "databases", "1"], "timeout: duplicate parameter"),
    (["TIMEOUT", "abc"], "timeout: argument couldn't be parsed into an integer"),
    (["timeout", "99999999999999999999"], "timeout: argument couldn't be parsed into an integer"),
    (["timeout", "+5"], "timeout: argument couldn't be parsed into an integer"),
    (["timeout", "-1"], "timeout: argument must be between 0 and 2147483647 inclusive"),
    (["timeout", "5", "maxmemory", "xyz"], "maxmemory: argument must be a memory value"),
    (["tcp-keepalive", "9999999999"], "tcp-keepalive: argument must be between 0 and 2147483647 inclusive"),
    (["maxclients", "0"], "maxclients: argument must be between 1 and 4294967295 inclusive"),
    (["active-expire-effort", "11"], "active-expire-effort: argument must be between 1 and 10 inclusive"),
    (["hz", "-1"], "hz: argument must be between 0 and 2147483647 inclusive"),
    (["protected-mode", "maybe"], "protected-mode: argument must be 'yes' or 'no'"),
    (["lazyfree-lazy-user-flush", "1"], "lazyfree-lazy-user-flush: argument must be 'yes' or 'no'"),
    (["maxmemory", "-1"], "maxmemory: argument must be a memory value"),
    (["maxmemory", "1.5gb"], "maxmemory: argument must be a memory value"),
    (["proto-max-bulk-len", "5"], f"proto-max-bulk-len: argument must be between 1048576 and {LONG_MAX} inclusive"),
    (
        ["client-query-buffer-limit", "99999999999999999999"],
        f"client-query-buffer-limit: argument must be between 1048576 and {LONG_MAX} inclusive",
    ),
]


def in_full(refused: str) -> str:
    if refused.startswith("ERR "):
        return refused
    name, reason = refused.split(": ", 1)
    return f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"


def pairs_of(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize(("words", "refused"), REDIS_REFUSALS, ids=[" ".join(words) for words, _ in REDIS_REFUSALS])
def test_a_refused_config_set_says_what_redis_says(words, refused):
    assert set_refusal(Config(), *pairs_of(words)) == in_full(refused)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server to compare with: install Redis 7.0")
def test_redis_refuses_config_set_in_the_same_words(tmp_path):
    redis = pytest.importorskip("redis")
    path = tmp_path / "redis.sock"
    argv = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        client = redis.Redis(unix_socket_path=str(path))
        if not client.info("server")["redis_version"].startswith("7.0."):
            pytest.skip("the words are those of Redis 7.0")
        for words, refused in REDIS_REFUSALS:
            with pytest.raises(redis.ResponseError) as caught:
                client.execute_command("CONFIG SET", *words)
            assert str(caught.value).removeprefix("ERR ") == in_full(refused).removeprefix("ERR "), words
        client.close()
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(
    ("name", "text", "choices"),
    [
        ("maxmemory-policy", "some-lru", ", ".join(config_module.POLICIES)),
        ("log-level", "loud", "trace, debug, info, warning, error"),
    ],
)
def test_set_of_a_wrong_choice_names_the_choices(name, text, choices):
    refused = set_refusal(Config(), (name, text))
    assert refused == in_full(f"{name}: argument(s) must be one of the following: {choices}")


def test_set_changes_all_of_its_pairs():
    config = Config()
    config.set([("TIMEOUT", "5"), ("maxmemory", "1kb"), ("protected_mode", "NO"), ("hz", "9999")])
    assert (config.timeout, config.maxmemory, config.protected_mode, config.hz) == (5, 1024, False, 500)
    assert config.source("timeout") == "config set"
    assert config.source("port") == "default"


def test_set_of_a_password_that_is_not_utf8_is_refused():
    assert "argument must be UTF-8 text" in set_refusal(Config(), ("requirepass", "\udcff"))


def test_a_hook_hears_of_each_change_once_all_values_are_in_place():
    config = Config()
    heard = []
    config.on_change("timeout", lambda seconds: heard.append(("timeout", seconds, config.hz)))
    config.on_change("hz", lambda hz: heard.append(("hz", hz, config.timeout)))
    config.set([("timeout", "5"), ("hz", "20")])
    assert heard == [("timeout", 5, 20), ("hz", 20, 5)]


def test_a_hook_does_not_hear_of_a_value_that_was_there_already():
    config = Config()
    config.on_change("timeout", lambda _: pytest.fail("timeout was 0 before"))
    config.set([("timeout", "0")])


def test_a_hook_that_refuses_rolls_everything_back():
    config = Config()
    heard = []
    config.set([("timeout", "1")])
    config.on_change("timeout", lambda seconds: heard.append((seconds, config.hz)))

    def refuse(hz: int) -> None:
        raise ConfigError(f"no {hz} today")

    config.on_change("hz", refuse)
    refused = set_refusal(config, ("timeout", "5"), ("HZ", "20"), ("maxmemory", "1gb"))
    assert refused == in_full("hz: no 20 today")
    assert heard == [(5, 20), (1, 10)], "a hook that had followed is told the former value"
    assert config.source("hz") == "default"
    assert config.source("timeout") == "config set"


def test_a_hook_with_a_bug_rolls_back_too():
    config = Config()
    config.on_change("hz", lambda hz: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        config.set([("timeout", "5"), ("hz", "20")])
    assert (config.timeout, config.hz) == (0, 10)


def test_configs_do_not_share_state():
    first, second = Config(), Config()
    first.on_change("hz", lambda _: pytest.fail("a hook of another config"))
    second.set([("hz", "20")])
    assert first.hz == 10


# --- CONFIG REWRITE ---


def test_rewrite_without_a_file_is_refused():
    with pytest.raises(CommandError) as caught:
        Config().rewrite()
    assert caught.value.message == "ERR The server is running without a config file"


def test_rewrite_changes_values_in_place_and_appends_the_rest(load, write):
    path = write("# mine\nhz = 20  # fast\n\n  timeout=1# idle\nmaxmemory = '1gb'\nsave = ''")
    config = load(path, "--databases", "3", "--port", "6379", environ={"KORA_LOG": "warn"})
    config.set([("hz", "30"), ("timeout", "0"), ("maxmemory", "2gb"), ("requirepass", 'a"b\n\x7f')])
    config.rewrite()
    assert Path(path).read_text() == (
        "# mine\nhz = 30  # fast\n\n  timeout=0# idle\nmaxmemory = \"2gb\"\nsave = ''\n"
        "\n# Generated by CONFIG REWRITE\n"
        'requirepass = "a\\"b\\n\\u007f"\ndatabases = 3\nlog-level = "warning"\n'
    )
    assert load(path).get("*") == config.get("*")
    config.set([("hz", "31"), ("maxclients", "5")])
    config.rewrite()
    text = Path(path).read_text()
    assert text.count("# Generated by CONFIG REWRITE") == 1
    assert text.endswith('log-level = "warning"\nmaxclients = 5\n')


def test_a_setting_may_stand_in_the_table_of_its_section(load, write):
    config = load(
        "--config", write("hz = 7\n[ Network ]  # ours\nport = 7000\ntcp_backlog=5\n\n[logging]\nlog_level = 'debug'")
    )
    assert (config.hz, config.port, config.tcp_backlog, config.log_level) == (7, 7000, 5, "debug")


def test_rewrite_leaves_tables_as_they_are_and_appends_before_them(load, write):
    path = write("hz = 7\n\n[network]\ntimeout = 1  # seconds\n")
    config = load("--config", path)
    config.set([("timeout", "2"), ("maxmemory", "1gb")])
    config.rewrite()
    text = Path(path).read_text()
    assert text == 'hz = 7\n\n\n# Generated by CONFIG REWRITE\nmaxmemory = "1gb"\n\n[network]\ntimeout = 2  # seconds\n'
    assert load("--config", path).masked() == config.masked()
    config.set([("maxclients", "50")])
    config.rewrite()
    assert load("--config", path).masked() == config.masked()


def test_rewrite_keeps_an_array_over_several_lines(load, write):
    array = 'bind = [  # where\n  "::1", # six\n  "127.0.0.1",\n]\n'
    path = write(array + "hz = 1\n")
    config = load(path)
    config.set([("hz", "2")])
    config.rewrite()
    assert Path(path).read_text() == array + "hz = 2\n"


def test_rewrite_of_an_array_over_several_lines_keeps_its_lines_and_comments(load, write):
    path = write("bind = [  # where\r\n  '#1', # six\r\n] # after\r\nhz = 1\r\n")
    load(path, "--bind", "10.0.0.1", "10.0.0.2", "--timeout", "3").rewrite()
    assert Path(path).read_bytes().decode() == (
        'bind = [\r\n    # where\r\n    # six\r\n    "10.0.0.1",\r\n    "10.0.0.2",\r\n] # after\r\nhz = 1\r\n'
        "\r\n# Generated by CONFIG REWRITE\r\ntimeout = 3\r\n"
    )
    assert load(path).bind == ("10.0.0.1", "10.0.0.2")


def test_rewrite_with_nothing_to_say_leaves_the_file_alone(load, write):
    path = write("hz = 0x10 # odd\nloglevel='notice'")
    before = os.stat(path)
    load(path).rewrite()
    assert Path(path).read_text() == "hz = 0x10 # odd\nloglevel='notice'"
    assert os.stat(path).st_ino == before.st_ino


def test_rewrite_keeps_the_permissions_and_a_symbolic_link(load, write, tmp_path):
    path = write("hz = 1", "real.toml")
    os.chmod(path, 0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    config = load(str(link))
    config.set([("hz", "2")])
    config.rewrite()
    assert link.is_symlink()
    assert Path(path).read_text() == "hz = 2"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.toml", "real.toml"]


def test_rewrite_makes_a_file_that_has_vanished_readable_by_its_owner_only(load, write):
    path = write("hz = 1")
    config = load(path, "--requirepass", "secret")
    os.unlink(path)
    config.rewrite()
    assert Path(path).read_text() == '# Generated by CONFIG REWRITE\nrequirepass = "secret"\nhz = 1\n'
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_rewrite_finds_its_file_after_the_server_has_changed_its_folder(write, tmp_path, monkeypatch):
    write("hz = 1", "kora.toml")
    monkeypatch.chdir(tmp_path)
    config = Config.load()
    monkeypatch.chdir("/")
    config.set([("hz", "2")])
    config.rewrite()
    assert (tmp_path / "kora.toml").read_text() == "hz = 2"


def test_rewrite_of_a_file_that_was_broken_meanwhile_leaves_it_alone(load, write):
    path = write("hz = 1")
    config = load(path)
    write("hz = = 1")
    with pytest.raises(CommandError, match=r"^ERR Rewriting config file: .*line 1, column 6: Invalid value$"):
        config.rewrite()
    assert Path(path).read_text() == "hz = = 1"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_rewrite_that_fails_leaves_the_old_file_and_nothing_else(load, write, tmp_path, monkeypatch, call):
    path = write("hz = 1")
    config = load(path)
    config.set([("hz", "2")])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CommandError) as caught:
        config.rewrite()
    assert caught.value.message == "ERR Rewriting config file: No space left on device"
    assert os.listdir(tmp_path) == ["test.toml"]
    assert Path(path).read_text() == "hz = 1"


def test_a_rewrite_is_on_the_disk_before_it_is_in_place(load, write, monkeypatch):
    config = load(write("hz = 1"))
    config.set([("hz", "2")])
    calls = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def spy_replace(source: str, target: str) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    config.rewrite()
    assert calls == ["file", "rename", "folder"]


comments = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)


@st.composite
def files(draw):
    """A file and its comments, which are all different: settings in any order, spelling and layout."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines, kept = [], []

    def comment() -> str:
        kept.append(f"#{len(kept)}:{draw(comments)}")
        return kept[-1]

    for setting in draw(st.lists(any_setting, unique=True, max_size=6)):
        name = draw(st.sampled_from([setting.name, setting.attribute, f'"{setting.name}"', f" {setting.name} "]))
        value = draw(values_of(setting))
        lines.append(comment())
        written = setting.toml(value)
        if setting.kind is Kind.LIST and draw(st.booleans()):
            inner = ["[" + comment(), *(setting.toml((item,))[1:-1] + "," for item in value), "]"]
            written = newline.join(inner)
        lines += [f"{name}={written}\t{comment()}", ""]
    return newline.join(lines), kept


@given(files(), st.lists(any_setting_and_value, max_size=6))
def test_rewrite_keeps_every_comment_and_says_what_is_in_force(tmp_path_factory, file, changes):
    text, kept = file
    path = tmp_path_factory.getbasetemp() / "rewrite.toml"
    path.write_bytes(text.encode())
    config = Config.load([str(path)])
    for setting, value in changes:
        setattr(config, setting.attribute, value)
    config.rewrite()
    written = path.read_bytes().decode()
    assert Config.load([str(path)]).get("*") == config.get("*")
    assert sorted(kept, key=written.index) == kept, "a comment is lost or out of order"
    config.rewrite()
    assert path.read_bytes().decode() == written


# --- Secrets ---


def test_a_password_is_masked_wherever_settings_are_shown(load):
    config = load("--requirepass", "hunter2", "--hz", "20")
    assert "hunter2" not in repr(config)
    assert "hz='20'" in repr(config)
    assert config.masked()["requirepass"] == "********"
    assert config.masked()["tls-key-file-pass"] == ""
    assert config.get("requirepass") == {"requirepass": "hunter2"}


# --- Documents ---


def test_the_example_file_is_what_the_table_says():
    path = Path(__file__).parent.parent / "kora.toml.example"
    remedy = f'run: python -c "from kora.config import example_toml; print(example_toml(), end=str())" > {path.name}'
    assert path.read_text() == example_toml(), remedy


def test_the_example_file_with_every_line_taken_in_gives_the_defaults(load, write):
    text = re.sub(r"^#(?=[a-z])", "", example_toml(), flags=re.MULTILINE)
    config = load(write(text))
    assert config.get("*") == Config().get("*")
    assert {config.source(name) for name in NAMES} == {"file"}
    assert load(write(example_toml())).source("port") == "default"


def test_every_setting_is_in_the_help_and_in_the_reference():
    shown = flags_help()
    table = reference_table().splitlines()
    assert len(table) == len(SETTINGS) + 2
    for setting in SETTINGS:
        assert f"  {setting.flag} " in shown
        assert sum(line.startswith(f"| `{setting.name}` |") for line in table) == 1
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in table)
    # But for a flag whose choices alone are longer.
    assert max(len(line) for line in shown.splitlines() if "|" not in line) <= 100


def test_the_directory_is_told_as_the_place_that_it_is() -> None:
    assert Config.load([], {}).get("dir") == {"dir": os.getcwd()}
    assert Config.load(["--dir", "/tmp/../tmp"], {}).get("dir") == {"dir": "/tmp"}
