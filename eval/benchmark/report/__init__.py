"""Reports of a benchmark: Markdown, CSV, JSON, plots and a page."""
