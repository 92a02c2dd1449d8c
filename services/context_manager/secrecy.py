"""What is never opened, and what is blanked in the rest.

Files that are made to hold secrets are known by name alone. Everything that is read passes `without_secrets`
before it is stored or searched, so neither the database nor an answer holds a secret. Line numbers survive.
"""

import re
from typing import Final

from services._runtime.redaction import redact
from services.context_manager.paths import name_of, suffix_of

_NAMES_ONLY: Final = re.compile(
    r"\.?env(?:\.\w+)?\.(?:example|sample|template|dist|defaults?)|(?:example"
    r"|sample)\.env"
)
_SECRET_NAMES: Final = re.compile(
    r"\.env(?:\..*|rc)?|.*\.env"
    r"|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx?|ppk|asc|gpg|age|ovpn|tfstate|tfvars|agekey)(?:\.backup)?"
    r"|(?:id|ssh_host)_(?:rsa|dsa|ecdsa|ed25519)(?:_key)?"
    r"|\.(?:netrc|pgpass|htpasswd|npmrc|yarnrc|pypirc|git-credentials|dockercfg|dockerconfigjson|vault-token|my\.cnf)"
    r"|_netrc|htpasswd|kubeconfig|credentials|\.?credentials\.(?:json|ya?ml|toml|ini|csv|xml|txt|db)"
    r"|client_secrets?.*\.json|service[-_]?account.*\.json|.*[-_]credentials\.json"
    r"|\.?secrets?(?:\..+)?\.(?:json|ya?ml|toml|ini|txt|env|properties|xml)",
    re.IGNORECASE,
)
_SECRET_PLACES: Final = re.compile(r"(?:^|/)(?:\.(?:ssh|aws|gnupg|gcloud)/|\.docker/config\.json$|\.kube/config$)")
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----.*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----|\Z)", re.DOTALL
)
_SETTINGS: Final = frozenset({".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".properties", ".xml", ".tf"})
_SETTING: Final = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]{0,60}?(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|private[_-]?key|access[_-]?key"
    r"|credentials?))"
    r"(?P<between>[\"']?[ \t]*[:=][ \t]*)(?![\"']?(?:\$|<|\{|\[|null\b|true\b|false\b|[|>][ \t]*$))"
    r"(?:\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[^\s,#\"'][^\n,#]*?(?=[ \t}\]]*(?:$|[,#])))",
    re.IGNORECASE | re.MULTILINE,
)
_NAME: Final = re.compile(r"^[ \t]*(?:#[ \t]*)?(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=", re.MULTILINE)


def names_only(path: str) -> bool:
    """Whether the file lists settings, of which the names are of use and the values are not."""
    return _NAMES_ONLY.fullmatch(name_of(path).lower()) is not None


def is_secret(path: str) -> bool:
    """Whether the file is made to hold secrets, going by its path: it is never opened."""
    if _SECRET_PLACES.search(path):
        return True
    return not names_only(path) and _SECRET_NAMES.fullmatch(name_of(path)) is not None


def without_secrets(path: str, text: str) -> str:
    """`text` of the file at `path` with what looks like a secret blanked, on the same number of lines."""
    blanked = _PRIVATE_KEY.sub(lambda key: "[redacted private key]" + "\n" * key.group().count("\n"), text)
    if suffix_of(path) in _SETTINGS:
        blanked = _SETTING.sub(lambda found: f'{found["name"]}{found["between"]}"[redacted value]"', blanked)
    return redact(blanked)


def setting_names(text: str) -> str:
    """The names of the settings in `text`, each on its own line of it; the values are gone."""
    return "\n".join(match[1] if (match := _NAME.match(line)) else "" for line in text.split("\n"))
