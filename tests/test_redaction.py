"""Text without credentials."""

import pytest

from darts_assets.redaction import shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://h/a.tif?sig=S&x=1 failed", "https://h/a.tif?*** failed"),
        ("(https://h/a?sig=S,T), https://h/b?sig=S.", "(https://h/a?***), https://h/b?***."),
        ("'/vsicurl/https://h/a.tif?sig=S' not", "'/vsicurl/https://h/a.tif?***' not"),
        ("http://user:word@h/a.tif", "http://***@h/a.tif"),
        ("postgresql+psycopg2://u:p@ss@db/x?sslpassword=S", "postgresql+psycopg2://***@db/x?***"),
        ("HTTPS://u@h", "HTTPS://***@h"),
        ("s3://b/k@2.tif", "s3://b/k@2.tif"),
        ("/local/what?.tif of me@home", "/local/what?.tif of me@home"),
        ("https://h/?", "https://h/?"),
    ],
)
def test_urls_are_shown_without_users_and_queries(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_secrets_of_the_environment_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("PGPASSWORD", "x")  # too short to be told from other text
    assert shown("denied for wJalrXUtnFEMI, x") == "denied for ***, x"
