"""A folder of images and COCO JSON, read and checked; ``data.py`` is the door."""
