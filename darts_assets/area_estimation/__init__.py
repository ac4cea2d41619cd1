"""Area of thaw slumps from a reviewed sample: strata, sample design, and estimates with intervals.

After Olofsson et al. (2014), Good practices for estimating area and assessing accuracy of land change, Remote Sensing
of Environment 148, 42-57, doi:10.1016/j.rse.2014.02.015; equations are cited by their number there.
"""
