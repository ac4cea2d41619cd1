"""Checksums of files as STAC items give them (`file:checksum`): multihashes in hexadecimal.

A multihash is the code of the hash function, the length of the digest, both as varints, and the digest
(https://multiformats.io/multihash). CDSE gives SHA3-256 of the bands of Sentinel-2 scenes, Element 84 SHA2-256.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FUNCTIONS = {
    0x11: "sha1",
    0x12: "sha256",
    0x13: "sha512",
    0x14: "sha3_512",
    0x15: "sha3_384",
    0x16: "sha3_256",
    0x17: "sha3_224",
    0x20: "sha384",
    0xD5: "md5",
    0x1013: "sha224",
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file must hash to.

    Attributes:
        function: name of the hash function, as `hashlib` knows it.
        digest: expected digest, hexadecimal, lower case.
    """

    function: str
    digest: str

    @classmethod
    def parse(cls, multihash: str) -> "Checksum | None":
        """The checksum that a multihash stands for; None where it is malformed, or its function is not known here."""
        try:
            content = bytes.fromhex(multihash)
            code, begin = _varint(content, 0)
            length, begin = _varint(content, begin)
        except (ValueError, IndexError):
            return None
        function, digest = _FUNCTIONS.get(code), content[begin:]
        if function is None or len(digest) != length or length != hashlib.new(function).digest_size:
            return None
        return cls(function, digest.hex())

    def of(self, path: Path) -> str:
        """The digest that a file has; raises OSError."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, self.function).hexdigest()


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 integer, and where it ends; raises IndexError."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
