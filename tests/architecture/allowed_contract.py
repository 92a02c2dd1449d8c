"""An import contract of our own: modules that may import the standard library and what is listed, nothing else."""

import sys
from collections.abc import Iterable
from typing import ClassVar, cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.imports import Module


class AllowedContract(Contract):
    """`source_modules` and what is below them import directly only `allowed_modules` and the standard library."""

    source_modules = fields.ListField(subfield=fields.ModuleField())
    allowed_modules = fields.ListField(subfield=fields.ModuleField())
    type_name: ClassVar[str] = "allowed"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - import-linter's signature
        """Broken by every import of something else; keeps the pairs for the message."""
        allowed = {*_names(self.allowed_modules), *sys.stdlib_module_names}
        sources = _names(self.source_modules)
        below = {name for source in sources for name in (source, *graph.find_descendants(source))}
        found = [
            (importer, imported)
            for importer in sorted(below)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported.split(".")[0] not in allowed
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each import."""
        for importer, imported in cast("list[tuple[str, str]]", check.metadata["found"]):
            output.print_error(f"{importer} imports {imported}")


def _names(field: object) -> list[str]:
    """The values of a field: import-linter puts them where the class declares the field."""
    return [module.name for module in cast("Iterable[Module]", field)]
