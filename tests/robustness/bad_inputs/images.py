"""Bad image files, and the unusual ones that must come out as the pixels that they show."""
import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from .world import CHECK, RUN, SIDE, SWEEP, Row, changed, cut, holds, picture

WHITE, BLACK = (16, 16), (60, 60)  # row and column of a pixel in the box, and of one beside it


def row(name, spoil, says, check=None) -> Row:
    return Row(name, spoil, CHECK, says, check)


def saved(image: Image.Image, name: str = "3.png", **options):
    """A spoiler that saves an image under a name among those of pets, in another format if the name says so."""
    def spoil() -> None:
        if name != "3.png":
            Path("pets/images/3.png").unlink()
            changed("images", 2, file_name=name)()
        image.save(f"pets/images/{name}", **options)

    return spoil


def pixels() -> np.ndarray:
    """(H, W, 3) of image 3, as a run sees it."""
    from fgdlab.lab.datasets.annotations import read_split
    from fgdlab.lab.datasets.images import read_image

    found = read_split("pets", "train")
    return read_image(found.image_folder, found.images[2])


def shows(white=(255,) * 3, black=(0,) * 3, within: int = 0):
    """A check that the box of image 3 has one colour and what lies beside it another, within some grey levels."""
    def check(printed: str) -> None:
        found = pixels().astype(int)
        assert found.shape == (SIDE, SIDE, 3)
        assert np.abs(found[WHITE] - white).max() <= within and np.abs(found[BLACK] - black).max() <= within, (
            found[WHITE], found[BLACK],
        )

    return check


def sixteen() -> Image.Image:
    return Image.fromarray(np.asarray(picture(mode="L")).astype(np.uint16) * 257)


def coloured_palette() -> Image.Image:
    image = Image.fromarray((np.asarray(picture(mode="L")) > 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 10, 20, 30])
    return image


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def lying(upright: bool):
    """A photograph stored on its side, 64 x 48 for an upright 48 x 64, with the turn in EXIF; annotated upright or as
    stored."""
    def spoil() -> None:
        picture(48, SIDE).transpose(Image.Transpose.ROTATE_90).save("pets/images/3.png", exif=oriented(6))
        changed("images", 2, **({"width": 48, "height": SIDE} if upright else {"width": SIDE, "height": 48}))()

    return spoil


def upright_pixels(printed: str) -> None:
    np.testing.assert_array_equal(pixels(), np.asarray(picture(48, SIDE)))


def stored_pixels(printed: str) -> None:
    np.testing.assert_array_equal(pixels(), np.rot90(np.asarray(picture(48, SIDE))))


def of_size(width: int, height: int, box: list):
    def spoil() -> None:
        picture(width, height).save("pets/images/3.png")
        changed("images", 2, width=width, height=height)()
        changed("annotations", 2, bbox=box)()

    return spoil


def sized(height: int, width: int):
    def check(printed: str) -> None:
        assert pixels().shape == (height, width, 3)

    return check


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises this size."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(
        b"IDAT", zlib.compress(b"\0" * 1000),
    ) + chunk(b"IEND", b"")


def text_bomb() -> None:
    """A PNG with a comment of 20 MB, which takes 20 kB."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", " " * 20_000_000, zip=True)
    picture().save("pets/images/3.png", pnginfo=info)


def link_out() -> None:
    Path("elsewhere").mkdir()
    shutil.move("pets/images/3.png", "elsewhere/3.png")
    os.symlink("../../elsewhere/3.png", "pets/images/3.png")


def link_out_by_folder() -> None:
    link_out()
    os.unlink("pets/images/3.png")
    os.symlink("../../elsewhere", "pets/images/sub")
    changed("images", 2, file_name="sub/3.png")()


def link_within() -> None:
    os.rename("pets/images/3.png", "pets/images/three.png")
    os.symlink("three.png", "pets/images/3.png")


def linked_folder() -> None:
    os.rename("pets/images", "pictures")
    os.symlink("../pictures", "pets/images")


def animation() -> None:
    frames = [picture(), Image.new("RGB", (SIDE, SIDE), (255, 255, 255))]
    saved(frames[0], "3.gif", save_all=True, append_images=frames[1:])()


def jpeg_called_png() -> None:
    data = io.BytesIO()
    picture().save(data, "JPEG", quality=95)
    Path("pets/images/3.png").write_bytes(data.getvalue())


def folder_for_a_file() -> None:
    os.unlink("pets/images/3.png")
    os.mkdir("pets/images/3.png")


def pipe_for_a_file() -> None:
    os.unlink("pets/images/3.png")
    os.mkfifo("pets/images/3.png")


ROWS = [
    row("no such file", lambda: os.unlink("pets/images/3.png"),
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first '3.png' of image 3; put them "
        "there, or take those "
        "images out of the split"),
    row("a folder of that name", folder_for_a_file,
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first '3.png' of image 3; put them "
        "there, or take those "
        "images out of the split"),
    row("a pipe of that name, which would wait for ever", pipe_for_a_file,
        "pets/images must hold the 8 image files of split 'all', got 1 missing, the first '3.png' of image 3; put them "
        "there, or take those "
        "images out of the split"),
    row("no bytes", holds("pets/images/3.png", b""),
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    row("text", holds("pets/images/3.png", "no image"),
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    row("a truncated PNG", cut("pets/images/3.png"),
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    row("a truncated JPEG", lambda: (saved(picture(), "3.jpg")(), cut("pets/images/3.jpg")()),
        "pets/images/3.jpg must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    Row("run: a truncated PNG", cut("pets/images/3.png"), RUN,
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    Row("sweep: a truncated PNG", cut("pets/images/3.png"), SWEEP,
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    row("two broken files", lambda: (cut("pets/images/3.png")(), cut("pets/images/4.png")()),
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out "
        "(and 1 more of 8 images "
        "have a defect)"),
    row("another size than annotated", saved(picture(50, SIDE)),
        "pets/images/3.png must be 64 x 64 pixels as in the annotations, got 50 x 64; use the images that were "
        "annotated, or correct width, "
        "height and boxes"),
    row("sides swapped, no EXIF", lambda: (changed("images", 2, width=48)(), saved(picture(SIDE, 48))()),
        "pets/images/3.png must be 48 x 64 pixels as in the annotations, got 64 x 48: the sides are swapped, perhaps "
        "by an EXIF rotation that "
        "was lost; rotate the image, or correct width, height and boxes"),
    row("floating point pixels", saved(picture(mode="F"), "3.tif"),
        "pets/images/3.tif must be an image that can be decoded, got: floating point pixels, which have no agreed "
        "white; save it with 8 bits; "
        "copy it again, or leave it out"),
    row("32-bit pixels", saved(Image.new("I", (SIDE, SIDE), 70_000), "3.tif"),
        "pets/images/3.tif must be an image that can be decoded, got: grey values from 70000 to 70000, which are "
        "neither 8 nor 16 bits; copy it "
        "again, or leave it out"),
    row("a decompression bomb: 60,000 x 60,000 pixels in 100 bytes", holds("pets/images/3.png", png_of(60_000, 60_000)),
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    row("a decompression bomb that is annotated as such", changed("images", 2, width=60_000, height=60_000),
        "pets/annotations.json: image 3 '3.png' must have at most 89478485 pixels, got 60000 x 60000; cut it into "
        "tiles, or write the size of "
        "the image file"),
    row("a comment that unpacks to 20 MB", text_bomb,
        "pets/images/3.png must be an image that can be decoded, got: ...; copy it again, or leave it out"),
    row("a link to a file outside of the folder", link_out,
        "pets/images must hold its images itself, got 1 that a link takes elsewhere, the first '3.png' of image 3; "
        "copy them there, or make the "
        "whole folder a link"),
    row("a file in a folder that is a link to outside", link_out_by_folder,
        "pets/images must hold its images itself, got 1 that a link takes elsewhere, the first 'sub/3.png' of image 3; "
        "copy them there, or make "
        "the whole folder a link"),
    # unusual, and fine
    row("a link to a file inside of the folder", link_within, "", shows()),
    row("an image folder that is a link", linked_folder, "", shows()),
    row("grey", saved(picture(mode="L")), "", shows()),
    row("black and white, 1 bit", saved(picture(mode="1")), "", shows()),
    row("grey with transparency", saved(picture(mode="LA")), "", shows()),
    row(
        "transparent everywhere", saved(Image.merge("RGBA", [*picture().split(), Image.new("L", (SIDE, SIDE), 0)])), "",
        shows(),
    ),
    row("CMYK, as a JPEG", saved(picture(mode="CMYK"), "3.jpg", quality=95), "", shows(within=12)),
    row("CMYK, as a TIFF", saved(picture(mode="CMYK"), "3.tif"), "", shows()),
    row("YCbCr, as a TIFF", saved(picture(mode="YCbCr"), "3.tif"), "", shows()),
    row("16-bit grey, as a PNG", saved(sixteen()), "", shows()),
    row("16-bit grey, as a TIFF", saved(sixteen(), "3.tif"), "", shows()),
    row("a palette", saved(coloured_palette()), "", shows((10, 20, 30))),
    row(
        "a palette with transparency", saved(coloured_palette(), transparency=bytes([255, 0])), "", shows((10, 20, 30)),
    ),
    row("an animated GIF: its first frame", animation, "", shows()),
    row("a JPEG that is called .png", jpeg_called_png, "", shows(within=12)),
    row("lying in the file, upright by EXIF, annotated upright", lying(upright=True), "", upright_pixels),
    row("lying in the file, upright by EXIF, annotated lying", lying(upright=False), "", stored_pixels),
    row("1 x 1 pixel", of_size(1, 1, [0, 0, 1, 1]), "", sized(1, 1)),
    row("20,000 pixels wide", of_size(20_000, 40, [19_000, 8, 24, 32]), "", sized(40, 20_000)),
]
