"""The services of the mesh, one folder each, and the runtime that they stand on."""
