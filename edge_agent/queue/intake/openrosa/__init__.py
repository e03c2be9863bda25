"""The OpenRosa endpoint: form programs of the ODK family (Collect, KoboCollect, Enketo, Web Forms) submit to it.

On loopback only. What is imported from here by the daemon without the endpoint is small: `endpoint` loads the rest when
it runs. Sources: https://docs.getodk.org/openrosa/, and what ODK Central and ODK Collect do where that is silent.
"""
