"""Records how BinderHub names repositories, images and builds, by running BinderHub's own code.

    git clone https://github.com/jupyterhub/binderhub /tmp/binderhub && cd /tmp/binderhub
    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r requirements.txt pycurl
    PYTHONPATH=. /tmp/venv/bin/python .../binderhub_names.py VERSION > .../binderhub_names.VERSION.json

No web API is asked: the answers that BinderHub would get are below.
"""

import ast
import asyncio
import inspect
import json
import sys
import textwrap
from types import SimpleNamespace

from binderhub import builder, repoproviders
from tornado.httpclient import AsyncHTTPClient

SHA = "0123456789abcdef0123456789abcdef01234567"
HYDRO = "8f7c2f0341ef4180b0dbe97f59130756"
LONG = "a-very-long-name" * 20
# (class, spec, what the web API answers)
CASES = [
    ("GitHubRepoProvider", "binder-examples/requirements/HEAD", {"sha": SHA}),
    ("GitHubRepoProvider", "Microsoft/Quantum_Katas/master", {"sha": SHA}),
    ("GitHubRepoProvider", "o/name.with.dots_/feature/with/slashes", {"sha": SHA}),
    ("GitHubRepoProvider", "o/n.git/v1.0", {"sha": SHA}),
    ("GitHubRepoProvider", f"o/{LONG}/main", {"sha": SHA}),
    ("GitHubRepoProvider", "o/na%20me/main", {"sha": SHA}),
    ("GistRepoProvider", "minrk/57c1a1ABCdef/HEAD", {"public": True, "history": [{"version": SHA}]}),
    ("GitLabRepoProvider", "group%2Fsub-group%2FMy_repo/main", {"id": SHA}),
    ("GitRepoProvider", f"https%3A%2F%2Fgit.example.org%2FX%2Fy.git/{SHA}", None),
    ("GitRepoProvider", f"https%3A%2F%2Fgit.example.org%2F{LONG}/{SHA}", None),
    ("GitRepoProvider", f"https%3A%2F%2Fgit.example.org%2Fcaf%C3%A9/{SHA}", None),
    ("GitRepoProvider", f"git%40git.example.org%3Ao%2Fn/{SHA}", None),
    ("ZenodoProvider", "10.5281/zenodo.3242074", "https://zenodo.org/record/3242074"),
    ("FigshareProvider", "10.6084/m9.figshare.9782777.v3", "https://figshare.com/articles/x/9782777/3"),
    (
        "DataverseProvider",
        "10.7910/DVN/TJCLKP",
        {
            "status": "OK",
            "data": {
                "id": 3035124,
                "identifier": "DVN/TJCLKP",
                "authority": "10.7910",
                "persistentUrl": "https://doi.org/10.7910/DVN/TJCLKP",
                "latestVersion": {"versionNumber": 3, "versionMinorNumber": 0},
            },
        },
    ),
    (
        "HydroshareProvider",
        f"https%3A%2F%2Fwww.hydroshare.org%2Fresource%2F{HYDRO}%2F",
        {"dates": [{"type": "modified", "start_date": "2019-09-25T16:09:17.006152Z"}]},
    ),
    (
        "CKANProvider",
        "https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fmy-Sample_data%2Fhistory%2Fabc",
        {"result": {"metadata_modified": "2024-02-27T14:15:54.573058"}},
    ),
    (
        "CKANProvider",
        "https%3A%2F%2Fdemo.ckan.org%2Fprefix%2Fdataset%2Fx%3Factivity_id%3D1",
        {"result": {"metadata_modified": "2024-02-27T14:15:54.573058"}},
    ),
]
PREFIXES = ["registry.example.org:5000/binder/Prod_1-", "gcr.io/p/r2d-" + "x" * 60]


def image_expression():
    """The expression in BuildHandler.get that makes an image's name, compiled."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(builder.BuildHandler.get)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "image_name":
            return compile(ast.Expression(node.value), "image_name", "eval")
    raise SystemExit("BinderHub makes images' names elsewhere now")


def function(name):
    """A function of the builder: once a method of its handler, which does not use `self` but for the other one."""
    if hasattr(builder, name):
        return getattr(builder, name)
    methods = SimpleNamespace()
    for method in ("_safe_build_slug", "_generate_build_name"):
        setattr(methods, method, getattr(builder.BuildHandler, method).__get__(methods))
    return getattr(methods, name)


def answering(answer):
    async def fetch(self, request, **_):
        if isinstance(answer, str):
            return SimpleNamespace(effective_url=answer, body=b"{}", headers={}, code=200)
        url = request if isinstance(request, str) else request.url
        return SimpleNamespace(effective_url=url, body=json.dumps(answer).encode(), headers={}, code=200)

    return fetch


async def main():
    expression = image_expression()
    recorded = []
    for name, spec, answer in CASES:
        if not hasattr(repoproviders, name):
            continue
        type(AsyncHTTPClient()).fetch = answering(answer)
        provider = getattr(repoproviders, name)(spec=spec)
        ref = await provider.get_resolved_ref()
        if ref is None:
            # This version does not know the form yet.
            continue
        repo, slug = provider.get_repo_url(), provider.get_build_slug()
        for image_prefix in PREFIXES:
            safe = function("_safe_build_slug")(slug, limit=255 - len(image_prefix))
            names = {"image_prefix": image_prefix, "safe_build_slug": safe, "ref": ref}
            recorded.append(
                {
                    "spec": f"{provider.name}:{spec}",
                    "ref": ref,
                    "repo": repo,
                    "slug": slug,
                    "prefix": image_prefix,
                    "image": eval(expression, {"self": SimpleNamespace()}, names),
                }
            )
    print(json.dumps({"binderhub": sys.argv[1], "names": recorded}, indent=1))


asyncio.run(main())
