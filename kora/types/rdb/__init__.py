"""Redis' serialization of values (RDB): what DUMP answers, and what snapshot files hold behind each key.

    reader.py    numbers and strings, read; `Damaged` is what everything here raises for bytes that no Redis wrote
    writer.py    numbers and strings, written
    packs.py     listpacks, the blocks in which Redis keeps small values, and intsets
    older.py     what earlier versions had instead: ziplists and zipmaps
    values.py    each type of value in each of its encodings
    streams.py   streams, whose blocks are listpacks too
    vectors.py   vector sets, as the value of a module that Redis does not have
    payload.py   a value by itself, with the version and the checksum of DUMP
    file_reader.py   a file of values, read a window at a time

Whatever is read is rebuilt element by element, so it is always looked at in full: lengths, duplicates, order, and
references from one part to another.  What is announced is never believed: nothing is reserved for it.
"""
