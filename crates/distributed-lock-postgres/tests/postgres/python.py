"""A program that takes the same locks, by the documented keys and nothing else of the library.

Reads commands, `WHAT HEX-OF-THE-NAME [SLOT]`, a line each, and answers each with a line.
"""

import hashlib
import re
import struct
import sys

import psycopg2


def hashed(data):
    return struct.unpack("<q", hashlib.sha1(data).digest()[:8])[0]


def signed(number, bits):
    return number - (1 << bits) if number >> (bits - 1) else number


def key(name):
    if len(name) <= 9 and name.isascii():
        bits = "".join(format(ord(character), "07b") for character in name) + "0"
        number = int(bits.ljust(64, "1"), 2)
        return signed(number >> 32, 32), signed(number & 0xFFFFFFFF, 32)
    if re.fullmatch("[0-9a-fA-F]{16}", name):
        return (signed(int(name, 16), 64),)
    if re.fullmatch("[0-9a-fA-F]{8},[0-9a-fA-F]{8}", name):
        return tuple(signed(int(half, 16), 32) for half in name.split(","))
    return (hashed(name.encode()),)


def permit(name, slot):
    return (hashed(b"distributed-lock/sem\0" + name.encode() + b"\0" + slot.encode()),)


def shown(numbers):
    return ",".join(format(n % (1 << (64 // len(numbers))), "0%dx" % (16 // len(numbers))) for n in numbers)


connection = psycopg2.connect(sys.argv[1])
connection.autocommit = True
cursor = connection.cursor()

for line in sys.stdin:
    what, name, *slot = line.rstrip("\n").split(" ")
    name = bytes.fromhex(name).decode()
    numbers = permit(name, slot[0]) if slot else key(name)
    if what == "key":
        answer = shown(numbers)
    else:
        parameters = ", ".join("%s::int8" if len(numbers) == 1 else "%s::int4" for _ in numbers)
        cursor.execute("SELECT pg_%s(%s)" % (what, parameters), numbers)
        answer = cursor.fetchone()[0]
    print(answer, flush=True)
