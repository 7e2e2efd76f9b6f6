"""More than classification: detection, segmentation, faces."""
