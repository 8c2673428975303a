"""Images of what happens: traces, plots, the demo's page."""
