"""Optional speed on a CPU: each with a plain fallback."""
