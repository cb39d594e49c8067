"""One self-contained HTML page about runs: `m3pc report`."""
