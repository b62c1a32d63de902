"""What the first bytes of an image file say, where Pillow would do too much to find out."""

from __future__ import annotations

from typing import Literal

Kind = Literal["JPEG", "PNG", "WEBP", "GIF"]


def kind_of(data: bytes) -> Kind | None:
    """The format of an image file by its first bytes."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    return None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file's canvas; None if its header is too short or none that is known.

    Layouts: RFC 9649, sections 2.5 (VP8), 2.6 (VP8L) and 2.7 (VP8X).
    """
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if chunk == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if chunk == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def jpeg_scans(data: bytes) -> int:
    """Scans of a JPEG: start-of-scan markers, which entropy-coded data cannot hold."""
    return data.count(b"\xff\xda")
