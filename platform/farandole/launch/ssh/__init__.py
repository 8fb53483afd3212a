"""Workers on other hosts through OpenSSH."""
