"""Methods compared on the same data, with the same evaluation and the same accounting: `m3pc compare`."""
