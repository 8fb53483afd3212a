"""Personal data: detection, policies on Arrow arrays, keys and encryption. Independent of Spark and of shards."""

from farandole.privacy.cipher import decrypt, decrypt_text, encrypt, encrypt_text
from farandole.privacy.detect import Detector, PiiFinding, redact
from farandole.privacy.keys import Secret, read_key
from farandole.privacy.policies import Protection, as_in_training, missing_policies, protected_type
from farandole.privacy.redaction import recogniser_version

__all__ = [
    "Detector",
    "PiiFinding",
    "Protection",
    "Secret",
    "as_in_training",
    "decrypt",
    "decrypt_text",
    "encrypt",
    "encrypt_text",
    "missing_policies",
    "protected_type",
    "read_key",
    "recogniser_version",
    "redact",
]
