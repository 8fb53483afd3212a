"""Personal data: recognising it, policies on Arrow arrays, keys, encryption. Knows neither Spark nor shards."""

from farandole.privacy.cipher import decrypt_text, encrypt_text, open_sealed, seal
from farandole.privacy.detect import Detector, Finding, redacted
from farandole.privacy.gate import missing_policies
from farandole.privacy.keys import Secret, read_key
from farandole.privacy.policies import Protection, protected_type

__all__ = [
    "Detector",
    "Finding",
    "Protection",
    "Secret",
    "decrypt_text",
    "encrypt_text",
    "missing_policies",
    "open_sealed",
    "protected_type",
    "read_key",
    "redacted",
    "seal",
]
