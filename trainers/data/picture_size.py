"""Size of a picture from the header of its file."""

from pathlib import Path

from PIL import Image

from trainers.errors import DataError


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels; nothing is decoded.

    Raises:
        DataError: it is neither JPEG nor PNG, or its header is damaged.
    """
    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            return image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}", str(path), "the file is damaged: unpack it again") from None
