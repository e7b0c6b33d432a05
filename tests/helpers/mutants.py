"""Seeded mutations of files: bytes, text headers, json, csv, and what lies inside gzip and zip containers."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
import zlib
from random import Random
from typing import Any

_INTEGERS = (0, 1, -1, 2, 127, 128, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 10**12, 2**63 - 1)
_WORDS = ("", "0", "-1", "1e400", "nan", "inf", "-0", "99999999999999999999", "1000000", "None", "ü\u202e", "a" * 5000)
_WORDS += ("../../etc/passwd", "%s%n", "<script>", "0x41", "1,5", "\x00", "LOCAL", "TRUE", "1 1 1 1 1 1 1 1 1")
_VALUES: tuple[Any, ...] = (None, True, 0, -1, 10**12, 1.5, float("nan"), float("inf"), "", "a", [], {}, [[]], [None])
_HEADER_BYTES = 600
_NESTED = "here something nested deeply"
# DICOM: rows, columns, frames, bits, samples, position, orientation, spacing, echo time, series and study UIDs, pixels.
_TAGS = ("28001000", "28001100", "28000800", "28000001", "28000101", "28000301", "28000200", "20003200", "20003700")
_TAGS += ("28003000", "18008100", "20000e00", "20000d00", "20001100", "08001600", "02001000", "e07f1000")


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """One to four changes, the header's bytes more often than the body's."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        end = len(changed) if random.random() < 0.3 else min(len(changed), _HEADER_BYTES)
        at = random.randrange(end) if end else 0
        length = random.choice((1, 2, 4, 8, 100))
        kind = random.randrange(7)
        if kind == 0 and changed:
            changed[at] ^= 1 << random.randrange(8)
        elif kind in (1, 2):
            width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
            value = random.choice(_INTEGERS) % (1 << 8 * width)
            changed[at : at + width] = value.to_bytes(width, order)
        elif kind == 3:
            del changed[random.randrange(len(changed) + 1) :]
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length]
        else:
            changed[at:at] = random.randbytes(length)
    return bytes(changed)


def mutate_header(data: bytes, random: Random) -> bytes:
    """A text header before binary voxels (MetaImage, NRRD): a line dropped, repeated, or with another value."""
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    text = re.match(rb"[\t\n\r\x20-\x7e]*", data)[0]
    lines, body = text.split(b"\n"), data[len(text) :]
    at = random.randrange(len(lines))
    kind = random.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(random.randrange(len(lines)), lines[at])
    else:
        numbers = list(re.finditer(rb"[^\s=:]+", lines[at]))
        if numbers:
            word = random.choice(numbers)
            new = random.choice((*_WORDS, *map(str, _INTEGERS))).encode()
            lines[at] = lines[at][: word.start()] + new + lines[at][word.end() :]
    return b"\n".join(lines) + body


def mutate_gzip(data: bytes, random: Random) -> bytes:
    """What is inside, compressed again; or the compressed stream itself."""
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    return gzip.compress(mutate_bytes(gzip.decompress(data), random), mtime=0)


def mutate_zip(data: bytes, random: Random) -> bytes:
    """A member with other content and right checksums; or the archive itself."""
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = random.choice([*members, *(name for name in members if name.endswith(".pkl"))])
    kind = random.randrange(6)
    if kind == 0:
        del members[name]
    else:
        members[name] = mutate_bytes(members[name], random)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member, inside in members.items():
            archive.writestr(member, inside)
    return target.getvalue()


def mutate_json(data: bytes, random: Random) -> bytes:
    """A value of another kind, a key dropped or renamed, deep nesting; or the text itself."""
    if random.random() < 0.25:
        return mutate_bytes(data, random)
    content = json.loads(data)
    for _ in range(random.randint(1, 3)):
        places = list(_places(content))
        if not places:
            break
        container, key = random.choice(places)
        kind = random.randrange(6)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[random.choice(_WORDS)] = container.pop(key)
        elif kind == 2:
            container[key] = _NESTED
        elif kind == 3:
            container[key] = [container[key]]
        else:
            container[key] = random.choice((*_VALUES, *_WORDS))
    deep = random.choice((300, 5000))
    text = json.dumps(content, ensure_ascii=random.random() < 0.5)
    return text.replace(f'"{_NESTED}"', "[" * deep + "]" * deep).encode("utf-8", "surrogatepass")


def _places(content: Any):
    """Every (container, key) below; a level is visited as often as any other."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)


def mutate_csv(data: bytes, random: Random) -> bytes:
    """A cell with another text, a column or line dropped, repeated or left open; or the text itself."""
    if random.random() < 0.25:
        return mutate_bytes(data, random)
    rows = [line.split(",") for line in data.decode().split("\n")]
    for _ in range(random.randint(1, 3)):
        row = random.choice(rows)
        column = random.randrange(len(row))
        kind = random.randrange(6)
        if kind == 0:
            del row[column]
        elif kind == 1:
            row.insert(column, row[column])
        elif kind == 2:
            rows.insert(random.randrange(len(rows)), list(row))
        elif kind == 3:
            row[column] = '"' + row[column]
        else:
            row[column] = random.choice(_WORDS)
        rows = [line for line in rows if line] or [[""]]
    return "\n".join(",".join(row) for row in rows).encode()


def mutate_dicom(data: bytes, random: Random) -> bytes:
    """The value of an element that settles the volume; or any bytes."""
    tag = bytes.fromhex(random.choice(_TAGS))
    at = data.find(tag, 132)
    if random.random() < 0.3 or at < 0:
        return mutate_bytes(data, random)
    kind = random.randrange(5)
    if kind == 0:
        return data[:at] + data[at + random.choice((4, 8, 10)) :]
    offset = at + random.choice((0, 2, 4, 6, 7, 8, 9, 10, 12))
    if kind == 1:
        return data[:offset] + random.randbytes(2) + data[offset + 2 :]
    if kind == 2:
        word = random.choice(_WORDS).encode()[: random.choice((2, 4, 16))]
        return data[: at + 8] + word + data[at + 8 + len(word) :]
    value = random.choice(_INTEGERS) % (1 << 32)
    width = random.choice((2, 4))
    return data[:offset] + (value % (1 << 8 * width)).to_bytes(width, "little") + data[offset + width :]


def mutate_frames(data: bytes, random: Random) -> bytes:
    """The compressed frames of a DICOM file, mostly of the length that they had, so that a decoder is asked."""
    start = data.index(b"\xe0\x7f\x10\x00")
    start = data.index(b"\xfe\xff\x00\xe0", start + 13) + 8  # behind the table of offsets
    frames, end = data[start:-8], data[-8:]
    changed = mutate_bytes(frames, random)
    if random.random() < 0.8:
        changed = changed[: len(frames)].ljust(len(frames), b"\0")
    return data[:start] + changed + end


def mutate_compressed_header(data: bytes, random: Random) -> bytes:
    """As `mutate_header`, or the compressed body replaced by one of another length (MetaImage)."""
    mark = b"ElementDataFile = LOCAL\n"
    if random.random() < 0.7 or mark not in data:
        return mutate_header(data, random)
    head, _, body = data.partition(mark)
    inside = zlib.decompress(body)
    return head + mark + zlib.compress(inside[: random.randrange(len(inside))] * random.choice((0, 1, 3)))
