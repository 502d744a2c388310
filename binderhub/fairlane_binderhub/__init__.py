"""Makes BinderHub build with Fairlane.

In BinderHub's configuration::

    c.BinderHub.build_class = "fairlane_binderhub.FairlaneBuildExecutor"
    c.FairlaneBuildExecutor.dispatcher_urls = ["http://fairlane-dispatcher:8600"]
"""

from .executor import FairlaneBuildExecutor

__all__ = ["FairlaneBuildExecutor", "__version__"]
__version__ = "0.1.0"
