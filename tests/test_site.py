"""The readable copy: links that hold, nothing from outside, formulas and search."""

import json
import re
from pathlib import Path

import pytest

from cotlib.errors import UserError
from cotlib.lab import site

ROOT = Path(site.ROOT)
KNOWN = {"04_orm", "GLOSSARY"}
LINKS = {
    "[04](04_orm.ipynb)": "[04](04_orm.ipynb)",
    "[`04`](notebooks/04_orm.ipynb)": "[`04`](04_orm.ipynb)",
    "[words](../docs/GLOSSARY.md#Path)": "[words](GLOSSARY.md#path)",
    "[end](#Glossary)": "[end](#glossary)",
    "[paper](https://arxiv.org/abs/2501.13926)": "[paper](https://arxiv.org/abs/2501.13926)",
    "[the data](data/README.md)": "the data",
    "[code](../cotlib/search/parm.py)": "code",
    "![a picture](docs/hero.png)": "![a picture](hero.png)",
}


@pytest.mark.parametrize("text", LINKS)
def test_links_suit_the_site(text):
    assert site.linked(f"see {text}, then", KNOWN) == f"see {LINKS[text]}, then"


def test_notebooks_lose_the_set_up_cell_and_what_no_page_can_show():
    nb = json.loads((ROOT / "notebooks" / "04_orm.ipynb").read_text("utf-8"))
    kinds = {kind for cell in nb["cells"] for out in cell.get("outputs", []) for kind in out.get("data", {})}
    assert any(kind.startswith("application/vnd.cotlib") for kind in kinds)
    count = len(nb["cells"])
    page = site.readable(nb)
    assert len(page["cells"]) == count - 1
    kinds = {
        kind for cell in page["cells"] for out in cell.get("outputs", []) for kind in out.get("data", {})
    }
    assert {kind for kind in kinds if kind.startswith("application/vnd")} == set() and "image/png" in kinds


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site of this repository."""
    for name in site.NEEDS:
        pytest.importorskip(name)
    out = tmp_path_factory.mktemp("site") / "out"
    assert site.main(["--out", str(out)]) == 0
    return out


def test_every_notebook_and_document_has_a_page(built):
    wanted = [path.stem for path in (*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("docs/*.md"))]
    assert wanted and {f"{name}.html" for name in (*wanted, "index", "search")} <= {
        p.name for p in built.iterdir()
    }
    assert not (built.parent / "out-source").exists()


def test_nothing_is_fetched_from_outside_and_no_link_leads_nowhere(built):
    pages = {path.name: path.read_text("utf-8") for path in built.glob("*.html")}
    for name, text in pages.items():
        fetched = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]*href="([^"]+)"', text)
        for address in (src or href for src, href in fetched):
            assert not re.match(r"(?:https?:)?//", address), (name, address)
            assert address.startswith(("#", "data:")) or (built / address.split("?")[0]).is_file(), (
                name,
                address,
            )
        for target, anchor in re.findall(r'<a [^>]*href="([^"#:]*)(?:#([^"]*))?"', text):
            assert not target or (built / target).is_file(), (name, target)
            there = pages.get(target or name, "")
            assert not anchor or f'id="{anchor}"' in there, (name, target, anchor)


def test_formulas_and_search_are_there(built):
    math = (built / "01_image_tokens.html").read_text("utf-8")
    script = re.search(r'src="([^"]*mathjax[^"]*\.js[^"]*)"', math)
    assert "mathrm{PSNR}" in math and (built / script[1].split("?")[0]).is_file()
    assert "halving" in (built / "searchindex.js").read_text("utf-8").lower()


def test_a_folder_with_other_files_is_not_emptied(tmp_path, capsys):
    for name in site.NEEDS:
        pytest.importorskip(name)
    (tmp_path / "thesis.tex").write_text("precious")
    assert site.main(["--out", str(tmp_path)]) == 2
    assert (tmp_path / "thesis.tex").read_text() == "precious" and "other files" in capsys.readouterr().err


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "NEEDS", ("sphinx_of_another_world",))
    with pytest.raises(UserError, match=r"sphinx_of_another_world not installed.*\[site\]"):
        site.build(tmp_path / "out")
