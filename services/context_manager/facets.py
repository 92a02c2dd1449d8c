"""Facets: the sides of a project that `get_<facet>_context` asks for.

A known facet has words that its files hold, places where they lie, and the fields that its facts fill; an
unknown one is searched for by its own name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from contracts.briefing import Fact
from services.context_manager import words


@dataclass(frozen=True, slots=True)
class Facet:
    """One side of a project. `fields` are prefixes of `slot.field`; empty: facts are chosen by their files."""

    name: str
    terms: tuple[str, ...]
    places: re.Pattern[str] | None
    fields: tuple[str, ...]

    def concerns(self, fact: Fact, paths: Iterable[str]) -> bool:
        """Whether the fact belongs here: by its field, or for an unknown facet by its file."""
        if self.fields:
            return f"{fact.slot}.{fact.field}".startswith(self.fields)
        return fact.source.rpartition(":")[0] in paths


def _facet(name: str, terms: str, places: str, fields: str) -> Facet:
    return Facet(name, words.terms(f"{name} {terms}"), re.compile(places, re.IGNORECASE), tuple(fields.split()))


_BACKEND: Final = _facet(
    "backend",
    "server api endpoint route handler service controller",
    r"/(?:api|server|backend|services?|app|routes?)/|openapi|swagger",
    "stack.api stack.framework stack.language stack.database nfr. scale.",
)
_FRONTEND: Final = _facet(
    "frontend",
    "component page view style browser ui react vue html css",
    r"/(?:frontend|web|ui|client|components?|pages|public)/|\.(?:tsx|jsx|vue|svelte|html|css|scss)$",
    "stack.framework stack.language",
)
_DATABASE: Final = _facet(
    "database",
    "schema migration table sql query model entity index",
    r"\.sql$|/(?:migrations?|models?|schemas?|db|database|alembic)/",
    "stack.database data. nfr.consistency security.pii security.retention",
)
_DATA: Final = _facet(
    "data",
    "dataset table csv parquet pipeline etl column feature warehouse",
    r"\.(?:csv|tsv|parquet|jsonl|sql|ipynb)$|/(?:data|datasets?|etl|pipelines?|features?)/",
    "data. security.pii security.retention stack.database",
)
_ML: Final = _facet(
    "ml",
    "model training prediction feature inference evaluation machine learning churn forecast",
    r"/(?:ml|models?|training|notebooks?|features?)/|\.(?:ipynb|onnx|csv|parquet)$|system\.toml$",
    "data. business. nfr. scale. security. stack.framework",
)
_DEPLOYMENT: Final = _facet(
    "deployment",
    "docker container image compose kubernetes helm deploy release pipeline workflow environment",
    r"docker|compose|/(?:deploy(?:ment)?|k8s|kubernetes|helm|infra|terraform|ops)/|/\.github/|gitlab-ci"
    r"|Jenkinsfile|Makefile|\.tf$",
    "stack.image stack.ci nfr. scale.",
)
_SECURITY: Final = _facet(
    "security",
    "auth authentication authorization permission token encryption privacy personal compliance gdpr hipaa",
    r"auth|secur|privacy|compliance|permission|polic",
    "security.",
)
_TESTING: Final = _facet(
    "testing",
    "test tests pytest fixture coverage assert spec",
    r"/(?:tests?|__tests__|specs?|e2e)/|test_|\.(?:test|spec)\.",
    "stack.ci stack.framework",
)
_API: Final = _facet(
    "api",
    "endpoint route request response openapi rest graphql schema contract",
    r"openapi|swagger|/(?:api|routes?|endpoints?|controllers?)/|\.(?:proto|graphql)$",
    "stack.api nfr. scale.",
)
_ARCHITECTURE: Final = _facet(
    "architecture",
    "design decision component service module overview",
    r"/(?:docs?|adrs?|architecture|design)/|README|architecture",
    "stack. nfr. scale. business.",
)
FACETS: Final = {
    alias: facet
    for facet, aliases in (
        (_BACKEND, "backend server"),
        (_FRONTEND, "frontend ui ux web client"),
        (_DATABASE, "database db sql storage"),
        (_DATA, "data dataset analytics data-engineering data_engineering"),
        (_ML, "ml ai model machine-learning machine_learning mlops"),
        (_DEPLOYMENT, "deployment devops infrastructure infra ops cloud ci cicd"),
        (_SECURITY, "security compliance privacy auth"),
        (_TESTING, "testing test tests qa quality"),
        (_API, "api interface endpoint"),
        (_ARCHITECTURE, "architecture design system"),
    )
    for alias in aliases.split()
}


def facet_of(name: str) -> Facet:
    """The facet called `name`; an unknown one stands for its own words."""
    spoken = re.sub(r"[-_]+", " ", name)
    return FACETS.get(name) or Facet(spoken, words.terms(spoken) or tuple(spoken.lower().split()), None, ())
