"""Robot manipulation: robosuite's Lift, Can and Square (a Franka Panda) as Gymnasium environments."""
