"""The kinds of files that have a name of their own: by the end of the file name, and by the whole of it.

Tables alone. What a file says about itself is read elsewhere and comes first.
"""

from typing import Final

KINDS: Final = {
    ".j2": "Jinja template", ".tmpl": "template",
    ".py": "Python", ".pyi": "Python stubs", ".js": "JavaScript", ".mjs": "JavaScript", ".ts": "TypeScript",
    ".tsx": "TypeScript", ".jsx": "JavaScript", ".java": "Java", ".go": "Go", ".rs": "Rust", ".c": "C",
    ".h": "C header", ".cpp": "C++", ".cs": "C#", ".rb": "Ruby", ".php": "PHP", ".kt": "Kotlin", ".swift": "Swift",
    ".scala": "Scala", ".r": "R", ".sh": "shell script", ".sql": "SQL", ".md": "Markdown", ".rst": "reStructuredText",
    ".txt": "text", ".yaml": "YAML", ".yml": "YAML", ".json": "JSON", ".toml": "TOML", ".ini": "INI",
    ".cfg": "configuration", ".html": "HTML", ".css": "CSS", ".xml": "XML", ".csv": "CSV", ".tsv": "TSV",
    ".parquet": "Parquet", ".ipynb": "Jupyter notebook", ".proto": "Protocol Buffers", ".tf": "Terraform",
    ".onnx": "ONNX model", ".whl": "Python wheel", ".png": "picture", ".jpg": "picture", ".svg": "picture",
    ".pdf": "PDF document", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".zip": "archive", ".gz": "archive",
    ".pkl": "pickle", ".db": "database", ".sqlite": "database", ".xlsx": "spreadsheet",
    ".graphql": "GraphQL",
}  # fmt: skip
"""By suffix, lower case: the kind as it stands before the word file."""
NAMED: Final = {
    "dockerfile": "container image", "makefile": "make targets", "license": "licence", "licence": "licence",
    "copying": "licence", "notice": "legal notices", "procfile": "processes to run", "codeowners": "code owners",
    "requirements.txt": "Python dependencies", "pyproject.toml": "Python project and its dependencies",
    "setup.py": "Python packaging", "setup.cfg": "Python packaging",
    "package.json": "Node package and its dependencies", "tsconfig.json": "TypeScript compiler settings",
    "go.mod": "Go module and its dependencies", "cargo.toml": "Rust package and its dependencies",
    "pom.xml": "Maven project", ".gitignore": "what git ignores", ".dockerignore": "what container builds ignore",
    ".editorconfig": "editor settings", ".gitattributes": "git attributes", ".gitlab-ci.yml": "GitLab CI pipeline",
    "jenkinsfile": "Jenkins pipeline", "docker-compose.yml": "compose services",
    "docker-compose.yaml": "compose services", "compose.yml": "compose services", "compose.yaml": "compose services",
    "changelog.md": "changes by version", "contributing.md": "how to contribute",
    "system.toml": "specification of an ML system", "conftest.py": "test fixtures",
    ".pre-commit-config.yaml": "pre-commit checks", "alembic.ini": "database migrations settings",
}  # fmt: skip
"""By name, lower case: what such a file holds."""
