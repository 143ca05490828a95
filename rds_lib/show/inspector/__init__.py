"""The routing inspector: one front end for JupyterLab and for a page that needs no server."""
