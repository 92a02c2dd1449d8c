"""What the services say to each other: subjects, envelope and messages.

Imports pydantic and the standard library alone, so that any program can use it to talk to the mesh.
`subjects` names things, `envelope` carries them, the other modules hold one conversation each.
"""
