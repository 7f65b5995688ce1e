"""What all processes share: the wire format, data types, bundles, names, environment variables.

Pure: no I/O beyond reading the bytes and mappings it is handed; the standard library and numpy only, because model
containers carry this package as plain files next to whatever the model itself needs.
"""
