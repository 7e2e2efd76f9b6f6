"""What everything else stands on: errors, files, fingerprints, devices, units, settings."""
