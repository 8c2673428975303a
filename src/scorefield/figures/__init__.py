"""The experiments of Song & Ermon (2019) as figures, the demo's page, traces and plots."""
