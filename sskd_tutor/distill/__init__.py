"""The method: adapters, losses, callbacks, plan, cache, checkpoint, `fit_sskd` and its relatives."""
