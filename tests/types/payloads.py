"""What redis-server answered to DUMP k after some commands: 7.0.15, and 8.2.3 for what came later."""

from typing import Final

# By name: the commands, and the payload.  Compressed and long ones are spelled in Python where that is shorter.
PAYLOADS: Final[dict[str, tuple[list[str], str]]] = {
    "empty string": (
        ['SET k ""'],
        "00000a005d9b5c400f7fa2da",
    ),
    "raw string": (
        ["SET k hello"],
        "000568656c6c6f0a006372df766534200a",
    ),
    "8 bits": (
        ["SET k -5"],
        "00c0fb0a0049c4c6f4d7263f68",
    ),
    "16 bits": (
        ["SET k -300"],
        "00c1d4fe0a00c6c48623febede2e",
    ),
    "32 bits": (
        ["SET k 70000"],
        "00c2701101000a0001a408fe953095a5",
    ),
    "64 bits": (
        ["SET k 12345678901"],
        "000b31323334353637383930310a00304e52d727176510",
    ),
    "lzf": (
        ["SET k " + "ab" * 50],
        "00c30a406402616261e056010161620a0017383d942096d863",
    ),
    "long string": (
        ["SET k " + "".join(chr(33 + place * 7 % 90) for place in range(80))],
        (
            "00405021282f363d444b525960676e75222930373e454c535a61686f76232a31383f464d545b62697077242b323940474e55"
            "5c636a7178252c333a41484f565d646b7279262d343b424950575e656c737a272e0a00518c018c5d82682c"
        ),
    ),
    "list": (
        ['RPUSH k a 1 -5000 70000 123456789012 "" ' + "x" * 70],
        (
            "120102c32a406a196a00000007008161020101f178ec03f270110104f4141a99be1c201805098001e04678e03c000148ff0a"
            "00442ca8c8cb3ab710"
        ),
    ),
    "list of two nodes": (
        ["RPUSH k a b c"],
        "1202020d0d0000000200816102816202ff020a0a0000000100816302ff0a00a60192a8f736b5c0",
    ),
    "intset 16": (
        ["SADD k 3 1 -2"],
        "0b0e0200000003000000feff010003000a001b18460ee16f04bb",
    ),
    "intset 64": (
        ["SADD k 1 9000000000"],
        "0b1808000000020000000100000000000000001a7118020000000a00b936a2e8c22f9457",
    ),
    "set": (
        ["SADD k only"],
        "0201046f6e6c790a006190c4de032a2d68",
    ),
    "small zset": (
        ["ZADD k 1 a 2.5 b -inf c 1e300 d"],
        (
            "11c331391f390000000800816302842d696e6605816102010181620283322e35048164029702312e30e005000731652b3330"
            "3018ff0a00b1d584616b3f9d5b"
        ),
    ),
    "zset": (
        ["ZADD k 1 a 2.5 b inf c -0.1 7"],
        "05040163000000000000f07f016200000000000004400161000000000000f03fc0079a9999999999b9bf0a0090c14eaf087d288c",
    ),
    "small hash": (
        ["HSET k f v 1 2"],
        "101111000000040081660281760201010201ff0a001a4df2175e0bff9b",
    ),
    "hash": (
        ["HSET k f v 1 2"],
        "0402c001c002016601760a00fc8b6e99fa231011",
    ),
    "stream": (
        ["XADD k 5-1 f 1", "XADD k 5-2 f 2", "XADD k 9-0 g x h y", "XDEL k 5-2"],
        (
            "130110000000000000000500000000000000013d3d0000001800020101010101816602000102010001000101010401030100"
            "0101010201040100010401dfff0202018167028178028168028179020801ff0209000501050203000a005c96b8a6cf47dbae"
        ),
    ),
    "empty stream": (
        ["XGROUP CREATE k g 7-7 MKSTREAM"],
        "13000000000000000000010167070781ffffffffffffffff00000a00a9c9e6c9592279fd",
    ),
    "stream with groups": (
        [
            "XADD k 1-1 f 1",
            "XADD k 2-1 f 2",
            "XADD k 3-1 f 3",
            "XGROUP CREATE k g 0",
            "XGROUP CREATE k idle 2-1",
            "XREADGROUP GROUP g ann COUNT 2 STREAMS k >",
            "XCLAIM k g bob 0 1-1 TIME 1700000000000 RETRYCOUNT 4",
        ],
        (
            "1301100000000000000001000000000000000130300000001400030100010101816602000102010001000101010401020101"
            "0100010201040102010201000103010401ff0303010101000003020167020102020000000000000001000000000000000100"
            "68e5cf8b010000040000000000000002000000000000000138ff24ffa1010000010203616e6e38ff24ffa101000001000000"
            "0000000002000000000000000103626f6238ff24ffa101000001000000000000000100000000000000010469646c65020181"
            "ffffffffffffffff00000a00fc8cccca982f16d7"
        ),
    ),
    "small set": (
        ["SADD k a 1"],
        "140c0c00000002008161020101ff0c0042e9698050aecf88",
    ),
    "stream 3": (
        [
            "XADD k 1-1 f 1",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g ann STREAMS k >",
            "XGROUP CREATECONSUMER k g bob",
        ],
        (
            "150110000000000000000100000000000000011c1c0000000a00010100010101816602000102010001000101010401ff0101"
            "01010100000101016701010101000000000000000100000000000000019fff24ffa1010000010203616e6e9fff24ffa10100"
            "009fff24ffa1010000010000000000000001000000000000000103626f629fff24ffa1010000ffffffffffffffff000c006a"
            "2af1fb832a8d8c"
        ),
    ),
    "small hash with deadlines": (
        ["HSET k f v 1 2 g w", "HPEXPIREAT k 4000000000000 FIELDS 1 f", "HPEXPIREAT k 3000000000000 FIELDS 1 g"],
        (
            "190030ef7dba0200002d2d0000000900816702817702f40030ef7dba02000009816602817602f400409452a3030000090101"
            "02010001ff0c001d3564234c17c0e8"
        ),
    ),
    "hash with deadlines": (
        ["HSET k f v 1 2 g w", "HPEXPIREAT k 4000000000000 FIELDS 1 f", "HPEXPIREAT k 3000000000000 FIELDS 1 g"],
        "180030ef7dba02000003010167017700c001c00281000000e8d4a51001016601760c00d50ee438d2d10f0a",
    ),
}
