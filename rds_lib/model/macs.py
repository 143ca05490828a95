"""Old name of ``hiera_macs``, kept until its users take ``Backbone.gmacs``."""

from rds_lib.model.hiera_macs import block_macs as block_macs
