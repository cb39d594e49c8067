"""Every published number has its script here; `m3pc bench <name>` runs those that compare ours with a plain form."""
