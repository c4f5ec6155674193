"""Images: uint8 [H, W, C], grey or colour."""

from components.modalities.image.modality import ImageModality

modality = ImageModality()
