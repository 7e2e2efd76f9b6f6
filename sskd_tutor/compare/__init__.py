"""Methods side by side at equal cost: studies, the runner, verdicts."""
