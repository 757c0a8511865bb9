#!/usr/bin/env python3
"""Put shares together without Relevo.

python3 combine_shares.py SHARE_FILE... > identity.txt

Each file holds a line RELEVO-SHARE-1.NUMBER.SHARE.CHECK. What is printed is the identity that age opens a pack with:
age --decrypt -i identity.txt bundle.tar.age | tar -x. Python 3 alone is needed.
"""

import hashlib
import re
import sys

LINE = re.compile(r"RELEVO-SHARE-1\.(\d{1,3})\.([0-9a-f]+)\.([0-9a-f]{8})\b")


def multiply(a, b):
    """In the field of 256 elements that AES, and HashiCorp's Vault, compute in."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def inverse(a):
    return next(b for b in range(256) if multiply(a, b) == 1)


def combine(shares):
    """Each share ends with its x; Lagrange's polynomial at 0 is the byte that was cut."""
    places = [share[-1] for share in shares]
    secret = bytearray()
    for values in zip(*(share[:-1] for share in shares)):
        byte = 0
        for here, value in zip(places, values):
            for other in places:
                if other != here:
                    value = multiply(value, multiply(other, inverse(other ^ here)))
            byte ^= value
        secret.append(byte)
    return bytes(secret)


def read(path):
    with open(path, encoding="ascii") as source:
        found = LINE.search(source.read())
    if not found:
        sys.exit("%s: no line of a share" % path)
    number, share = int(found.group(1)), bytes.fromhex(found.group(2))
    if hashlib.sha256(b"%d." % number + share).hexdigest()[:8] != found.group(3):
        sys.exit("%s: a letter of share %d is wrong" % (path, number))
    return share


def main():
    shares = {share[-1]: share for share in map(read, sys.argv[1:])}
    secret = combine(list(shares.values())) if len(shares) > 1 else b""
    if not secret.startswith(b"AGE-SECRET-KEY-"):
        sys.exit("%d shares make no identity: too few, or of several packs" % len(shares))
    print(secret.decode())


if __name__ == "__main__":
    main()
