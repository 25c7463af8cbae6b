"""Servers on loopback that speak TLS with certificates of their own, made for the name `localhost`."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal

from cosignal.testing import MisbehavingServer

# Made for these tests and used nowhere else.
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMzRrmSxPC1WX2byS
RZ1RItAOAPBKYrHCpiYeg11G8nqhRANCAAQwHRnBqHN9fcg2r/zPhomxiq7q/Yb9
sKuG0nS4QxqxeQTsFnOurEjj32Lfzwvl1VcJkXVLP2ht6aOGINaAIvR6
-----END PRIVATE KEY-----
"""
CERTIFICATES = {
    # until the year 2100
    "valid": """-----BEGIN CERTIFICATE-----
MIIBTjCB9qADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9z
dDAgFw0wMDAxMDEwMDAwMDBaGA8yMTAwMDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ
bG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMB0ZwahzfX3INq/8
z4aJsYqu6v2G/bCrhtJ0uEMasXkE7BZzrqxI499i388L5dVXCZF1Sz9obemjhiDW
gCL0eqM3MDUwFAYDVR0RBA0wC4IJbG9jYWxob3N0MB0GA1UdDgQWBBRqiAxlyynP
uY5NC3kd10yitlQHKzAKBggqhkjOPQQDAgNHADBEAiAhDm+08vuMo9xx28KSXJlY
pabcYLoG9s95I/LxkOw0bAIgQvbFOPgijnQgnMPhWtM0S3ZuyifKr7rlYoRT7OB8
p4o=
-----END CERTIFICATE-----
""",
    # until the year 2001
    "expired": """-----BEGIN CERTIFICATE-----
MIIBTTCB9KADAgECAgECMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9z
dDAeFw0wMDAxMDEwMDAwMDBaFw0wMTAxMDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxv
Y2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDAdGcGoc319yDav/M+G
ibGKrur9hv2wq4bSdLhDGrF5BOwWc66sSOPfYt/PC+XVVwmRdUs/aG3po4Yg1oAi
9HqjNzA1MBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAdBgNVHQ4EFgQUaogMZcspz7mO
TQt5HddMorZUByswCgYIKoZIzj0EAwIDSAAwRQIhANTrp98JSnrJO0vIgC/wXhbj
7dBVGIOcr3yGVN5PZOrSAiAH/YDHy8qLkeoLEuUx7gzWIaVomwoKtOXTE+SDOUva
NQ==
-----END CERTIFICATE-----
""",
}


def speaking_tls(server: MisbehavingServer, folder: Path, which: Literal["valid", "expired"] = "valid") -> Path:
    """Let a server that is not entered yet speak TLS. Return the file with its certificate."""
    key, certificate = folder / "key.pem", folder / f"{which}.pem"
    key.write_text(KEY)
    certificate.write_text(CERTIFICATES[which])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return certificate
