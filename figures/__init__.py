"""Pictures of results: pure functions from a result to a Figure.

Nothing here simulates or estimates. If it is not in the netCDF, it is not in the figure. A
module draws one figure; its ``draw`` touches no global state and saves nothing: the caller
saves.
"""
