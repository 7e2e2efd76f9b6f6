"""Figures, panels, the dashboard and the Explorer."""
