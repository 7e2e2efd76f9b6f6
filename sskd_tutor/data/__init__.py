"""Images and views, folders, the formats of known sets, made-up sets."""
