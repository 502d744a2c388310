"""Renders the Helm chart with Helm's own engine, for the tests of the chart.

Reads a list of cases from standard input and writes a list of results to standard output, both as JSON. A case has
`namespace` and `values`, and may have `release`, `lint`, `parent` (as a subchart), and `secret`: the data of the
Secret that is in the cluster already, for which a stand-in for the Kubernetes API answers. A result has `files` (the
rendered text by template) or `error`, and what `lint` found.
"""

import http.server
import json
import pathlib
import shutil
import sys
import tempfile
import threading

import helm_python as helm

CHART = pathlib.Path(sys.argv[1])
RELEASE = "fairlane"
PATCH = {
    "patch": {
        "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
        "responses": {},
        "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": "Secret"},
    }
}


def api(secret):
    """The answers of a cluster that holds one Secret."""
    namespace = secret["metadata"]["namespace"]
    return {
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {
            "kind": "APIResourceList",
            "groupVersion": "v1",
            "resources": [{"name": "secrets", "namespaced": True, "kind": "Secret", "verbs": ["get"]}],
        },
        "/openapi/v3": {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=1"}}},
        "/openapi/v3/api/v1": {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.36.0"},
            "paths": {"/api/v1/namespaces/{namespace}/secrets/{name}": PATCH},
        },
        f"/api/v1/namespaces/{namespace}/secrets/{secret['metadata']['name']}": secret,
    }


def serve(answers):
    """Serves these answers on a free port; returns the server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path.split("?")[0])
            status = 200 if answer else 404
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(answer or missing).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def only_secret(folder):
    """A copy of the chart that makes nothing but the Secret."""
    chart = folder / "fairlane"
    shutil.copytree(CHART, chart)
    for path in (chart / "templates").iterdir():
        if path.name not in ("_helpers.tpl", "_checks.tpl", "checks.yaml", "secret.yaml"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return chart


def beside(case, folder):
    """Installs where the Secret is already, in a dry run that asks the stand-in."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": RELEASE,
            "namespace": case["namespace"],
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "meta.helm.sh/release-name": RELEASE,
                "meta.helm.sh/release-namespace": case["namespace"],
            },
        },
        "data": case["secret"],
    }
    server = serve(api(secret))
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    options = {"kubeconfig_content": json.dumps(kubeconfig), "storage_driver": "memory"}
    with helm.Config(namespace=case["namespace"], **options) as config:
        chart = only_secret(folder)
        release = config.install(
            chart, RELEASE, case["values"], namespace=case["namespace"], dry_run="server", timeout=30
        )
    return {"secret.yaml": release["manifest"]}


def below(folder):
    """A chart that has ours as a subchart."""
    parent = folder / "parent"
    (parent / "charts").mkdir(parents=True)
    shutil.copytree(CHART, parent / "charts/fairlane")
    dependency = "dependencies: [{name: fairlane, version: '*', condition: fairlane.enabled}]"
    (parent / "Chart.yaml").write_text(f"apiVersion: v2\nname: parent\nversion: 0.0.1\n{dependency}\n")
    (parent / "values.yaml").write_text("global: {shared: true}\n")
    return parent


def run(case, folder):
    release = case.get("release", RELEASE)
    if "secret" in case:
        return beside(case, folder)
    path, values = CHART, case["values"]
    if case.get("parent"):
        path, values = below(folder), {"fairlane": values}
    with helm.Chart.load(path) as chart:
        rendered = chart.render(values, name=release, namespace=case["namespace"], is_install=True)
    return {name.split("templates/", 1)[-1]: text for name, text in rendered.items() if text.strip()}


def result(case):
    found = {}
    if case.get("lint"):
        report = helm.lint(CHART, case["values"], strict=True, namespace=case["namespace"], kube_version="v1.30.0")
        found["lint"] = [one["error"] for one in report["messages"] if one["severity"] > 1]
    with tempfile.TemporaryDirectory() as folder:
        try:
            found["files"] = run(case, pathlib.Path(folder))
        except helm.HelmError as error:
            found["error"] = str(error)
    return found


json.dump([result(case) for case in json.load(sys.stdin)], sys.stdout)
