"""What is owed to the people that the data are about, and to those who answer for the system.

Owns recognising personal data, masking it, the rules of regimes, erasing an entity, and the bill of materials. What
serving needs of it (`pii`, `checksums`, `mask`, `regimes`) imports numpy's side of nothing: the standard library alone.
"""
