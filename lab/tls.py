# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for servers on loopback: an authority, what it signed, and another authority that signed nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key in PEM, and the file of the authority that signed it."""

    pem: bytes
    key: bytes
    authority: Path

    def install(self, directory: Path, name: str = "server") -> tuple[Path, Path]:
        """Write ``name.crt`` and ``name.key`` (0600, as servers and libpq demand) and return both paths."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        for path, content in ((certificate, self.pem), (key, self.key)):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return certificate, key


class Authority:
    """A certificate authority whose certificate is in the file ``root``: what clients give as ``sslrootcert``."""

    def __init__(self, directory: Path | str, name: str = "lab authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.root = Path(directory) / f"{name.replace(' ', '-')}.crt"
        self.root.parent.mkdir(parents=True, exist_ok=True)
        self.root.write_bytes(_pem(self._certificate))

    def server(self, *hosts: str) -> Certificate:
        """A server's certificate for these names and addresses (default: loopback's)."""
        hosts = hosts or ("localhost", "127.0.0.1")
        return self._sign(hosts[0], x509.SubjectAlternativeName([_general_name(host) for host in hosts]))

    def client(self, user: str) -> Certificate:
        """A client's certificate, for ``pg_hba.conf`` lines with ``cert`` or ``clientcert``."""
        return self._sign(user)

    def _sign(self, common_name: str, *extensions: x509.ExtensionType) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(common_name), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(_pem(builder.sign(self._key, hashes.SHA256())), private, self.root)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
