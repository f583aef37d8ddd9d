#!/usr/bin/env python3
"""Makes pictures/: one small image in many forms, and what a reference decoder (Pillow) makes of each.

Needs Pillow, cjpeg and jpegtran. Run in tests/data: `python3 make_pictures.py`. Each line of pictures/list.txt is NAME WIDTH HEIGHT; the
decoded RGB of all follows one another in pictures/reference.rgb. Transparency lies over grey 128, orientation is applied.
"""
import io, math, os, struct, subprocess, zlib
from PIL import Image, ImageOps

W, H = 45, 29
OUT = "pictures"
os.makedirs(OUT, exist_ok=True)


def scene(w=W, h=H):
    im = Image.new("RGB", (w, h))
    for y in range(h):
        for x in range(w):
            disc = (x - w * 0.35) ** 2 + (y - h * 0.5) ** 2 < (h * 0.3) ** 2
            r = 200 if disc else 40 + 3 * x
            im.putpixel((x, y), (r % 256, int(90 + 60 * math.sin(x / 5)) if not disc else 60, (30 + 5 * y) % 256))
    return im


def over_grey(im):
    im = im.convert("RGBA")
    out = Image.new("RGB", im.size)
    for y in range(im.height):
        for x in range(im.width):
            *rgb, a = im.getpixel((x, y))
            out.putpixel((x, y), tuple((v * a + 128 * (255 - a) + 127) // 255 for v in rgb))
    return out


def jpeg(im, **kw):
    b = io.BytesIO()
    im.save(b, "JPEG", **kw)
    return b.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, bits, kind, rows, interlace=0):
    head = struct.pack(">IIBBBBB", w, h, bits, kind, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def rows16(im, alpha=False):
    out = b""
    for y in range(im.height):
        out += b"\0"
        for x in range(im.width):
            p = im.getpixel((x, y)) + ((5 * x % 256,) if alpha else ())
            out += b"".join(struct.pack(">H", v * 257) for v in p)
    return out


def adam7(im):
    out = b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        for y in range(y0, im.height, dy):
            if x0 < im.width:
                out += b"\0" + b"".join(bytes(im.getpixel((x, y))) for x in range(x0, im.width, dx))
    return png(im.width, im.height, 8, 2, out, 1)


def saved(im, kind, **kw):
    b = io.BytesIO()
    im.save(b, kind, **kw)
    return b.getvalue()


def tran(data, *args):
    return subprocess.run(["jpegtran", *args], input=data, capture_output=True, check=True).stdout


s = scene()
grey = s.convert("L")
alpha = s.convert("RGBA")
for y in range(H):
    for x in range(W):
        alpha.putpixel((x, y), s.getpixel((x, y)) + ((x * 6) % 256,))
palette = s.quantize(64)
clear = s.quantize(16)
clear.info["transparency"] = 3
base = jpeg(s, quality=90, subsampling=0)
open("/tmp/scans.txt", "w").write("0;\n1;\n2;\n")
forms = {
    "444.jpg": base,
    "422.jpg": jpeg(s, quality=90, subsampling=1),
    "420.jpg": jpeg(s, quality=90, subsampling=2),
    "grey.jpg": jpeg(grey, quality=90),
    "optimised.jpg": jpeg(s, quality=75, optimize=True),
    "best.jpg": jpeg(s, quality=100, subsampling=0),
    "worst.jpg": jpeg(s, quality=10),
    "progressive444.jpg": jpeg(s, quality=90, subsampling=0, progressive=True),
    "progressive420.jpg": jpeg(s, quality=80, subsampling=2, progressive=True),
    "progressive_grey.jpg": jpeg(grey, quality=90, progressive=True),
    "restart.jpg": jpeg(s, quality=90, restart_marker_blocks=2),
    "restart_rows.jpg": jpeg(s, quality=90, subsampling=0, restart_marker_rows=1),
    "progressive_restart.jpg": jpeg(s, quality=90, progressive=True, restart_marker_blocks=3),
    "scans.jpg": tran(base, "-scans", "/tmp/scans.txt"),
    "progressive_grey_restart.jpg": jpeg(grey, quality=85, progressive=True, restart_marker_blocks=4),
    "comment.jpg": jpeg(s, quality=90, comment=b"\xff\xd9 is no end here"),
    "cmyk.jpg": jpeg(s.convert("CMYK"), quality=95),
}


def marked_ycck(im):
    """CMYK whose inks are stored as YCbCr: Pillow writes the four planes as they are, and Adobe's transform is set by hand."""
    black = Image.new("L", im.size, 200)
    black.paste(im.convert("L").point(lambda v: 128 + v // 2))
    # Pillow inverts what it writes as CMYK.
    planes = [plane.point(lambda v: 255 - v) for plane in (*im.convert("YCbCr").split(), black)]
    data = bytearray(jpeg(Image.merge("CMYK", planes), quality=92))
    at = data.index(b"Adobe") + 11
    assert data[at] in (0, 2)
    data[at] = 2
    return bytes(data)


def resampled(data, component, sampling):
    """The same scan under another frame header: what it shows changes, and reference decoders agree on it."""
    data = bytearray(data)
    at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    data[at + 11 + 3 * component] = sampling
    return bytes(data)


def crop(w, h, **kw):
    return jpeg(scene(64, 64).crop((20, 20, 20 + w, 20 + h)), quality=90, **kw)


forms |= {
    "ycck.jpg": marked_ycck(s),
    "scans420.jpg": tran(jpeg(s, quality=90, subsampling=2), "-scans", "/tmp/scans.txt"),
    # 4:4:0 and 4:1:1, which Pillow does not write: 4:2:2 turned by a quarter, and what `-wide` of cjpeg would give.
    "440.jpg": tran(jpeg(scene(32, 48), quality=90, subsampling=1), "-rotate", "90"),
    "440_progressive.jpg": tran(jpeg(scene(32, 48), quality=90, subsampling=1, progressive=True), "-rotate", "90"),
    "411.jpg": subprocess.run(
        ["cjpeg", "-quality", "90", "-sample", "4x1"], input=saved(s, "PPM"), capture_output=True, check=True).stdout,
    "grey_2x2.jpg": resampled(jpeg(grey, quality=90), 0, 0x22),
    "plain_rgb.jpg": subprocess.run(
        ["cjpeg", "-quality", "90", "-rgb"], input=saved(s, "PPM"), capture_output=True, check=True).stdout,
    "extended.jpg": jpeg(s, quality=90).replace(b"\xff\xc0", b"\xff\xc1", 1),
}
# Edges of the triangle filters: chroma of one, two and three samples a side, and bands that are not full.
for w, h in [(1, 1), (2, 2), (3, 3), (5, 17), (6, 33), (7, 16), (17, 1), (16, 18)]:
    forms[f"{w}x{h}_420.jpg"] = crop(w, h, subsampling=2)
    forms[f"{w}x{h}_422.jpg"] = crop(w, h, subsampling=1)
forms["6x33_420_progressive.jpg"] = crop(6, 33, subsampling=2, progressive=True)
for n in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = n
    forms[f"exif{n}.jpg"] = jpeg(s, quality=92, subsampling=0, exif=exif.tobytes())
forms |= {
    "rgb.png": saved(s, "PNG"),
    "rgba.png": saved(alpha, "PNG"),
    "grey.png": saved(grey, "PNG"),
    "grey_alpha.png": saved(alpha.convert("LA"), "PNG"),
    "palette.png": saved(palette, "PNG"),
    "palette_clear.png": saved(clear, "PNG", transparency=3),
    "bits1.png": saved(s.convert("1"), "PNG"),
    "bits2.png": saved(s.quantize(4), "PNG", bits=2),
    "bits4.png": saved(s.quantize(16), "PNG", bits=4),
    "rgb16.png": png(W, H, 16, 2, rows16(s)),
    "rgba16.png": png(W, H, 16, 6, rows16(s, True)),
    "interlaced.png": adam7(s),
    "rgb.bmp": saved(s, "BMP"),
    "grey.bmp": saved(grey, "BMP"),
    "palette.bmp": saved(palette, "BMP"),
    "bits1.bmp": saved(s.convert("1"), "BMP"),
    "rgba.bmp": saved(alpha, "BMP"),
    "lossless.webp": saved(s, "WEBP", lossless=True),
    "lossless_alpha.webp": saved(alpha, "WEBP", lossless=True, exact=True),
    "lossy.webp": saved(s, "WEBP", quality=90),
    "lossy_alpha.webp": saved(alpha, "WEBP", quality=90),
}
# Large enough that a hole cannot pass for a few blocks by chance.
big = scene(320, 240)
for y in range(240):
    for x in range(320):
        big.putpixel((x, y), tuple((v + (x * 7919 + y * 104729) % 23) % 256 for v in big.getpixel((x, y))))
for name, data in {
    "large_420.jpg": jpeg(big, quality=70, subsampling=2),
    "large_444.jpg": jpeg(big, quality=60, subsampling=0),
    "large_grey.jpg": jpeg(big.convert("L"), quality=75),
    "large_optimised.jpg": jpeg(big, quality=60, optimize=True),
    "large_progressive.jpg": jpeg(big, quality=60, progressive=True),
    "large_restart.jpg": jpeg(big, quality=60, restart_marker_rows=1),
}.items():
    open(f"{OUT}/{name}", "wb").write(data)
with open(f"{OUT}/list.txt", "w") as names, open(f"{OUT}/reference.rgb", "wb") as reference:
    for name, data in forms.items():
        open(f"{OUT}/{name}", "wb").write(data)
        im = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if name == "rgba16.png":
            rgb = over_grey(Image.merge("RGBA", [*s.split(), Image.frombytes("L", (W, H), bytes(5 * x % 256 for _ in range(H) for x in range(W)))]))
        elif im.mode in ("RGBA", "LA", "PA") or "transparency" in im.info:
            rgb = over_grey(im)
        else:
            rgb = im.convert("RGB")
        names.write(f"{name} {rgb.width} {rgb.height}\n")
        reference.write(rgb.tobytes())
