"""The methods that `m3pc compare` trains itself, one file each; `comparison.registry` names them all."""
