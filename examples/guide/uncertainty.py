# %% [markdown]
# # What the data say
#
# Draft.
