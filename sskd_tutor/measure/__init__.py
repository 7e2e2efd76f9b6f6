"""How alike are two networks? Alignment, fidelity, the recording of a run."""
